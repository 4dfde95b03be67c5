"""A revision of a window as operators are shown it."""

import threading
import weakref

import pyarrow as pa

from schemas.avro.flow_encoder import arrow_rows
from schemas.flows import FlowColumns
from streams.partition.storing import KafkaPartition


class Shown:
    """Rows under the name that they are stored under. Operators that look at the same time share one Arrow table."""

    def __init__(self, flows: FlowColumns, partition: KafkaPartition, revision: int) -> None:
        self.flows, self.partition, self.revision = flows, partition, revision
        self._lock = threading.Lock()
        self._table: weakref.ref[pa.Table] | None = None  # what waits for a slow one is held once, as columns

    def table(self) -> pa.Table:
        """The columns of FlowRecord."""
        with self._lock:
            table = self._table() if self._table is not None else None
            if table is None:
                partition = self.partition
                rows = arrow_rows(
                    self.flows, topic_id=partition.topic_id, kafka_partition=partition.number, revision=self.revision
                )
                table = pa.Table.from_batches([rows])
                self._table = weakref.ref(table)
            return table
