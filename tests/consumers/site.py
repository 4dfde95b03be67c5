"""The site that all engines read: a node that is a router, with everything that makes counting hard in its topics.

Packets pass two watched interfaces, so that half of all records are not primary; the producer stands still for longer
than streams waits for it, so that packets come late and a window has several revisions, and the kernel adds some up;
streams is killed with -9, so that records come twice. Then the producer ends, and what is in the topics stays as it is.
"""

import contextlib
import io
import json
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import Consumer, TopicPartition

import schemas.avro
from tests.consumers import router
from tests.consumers.totals import Totals
from tests.faults import check
from tests.faults.installation import PRODUCER, STREAMS, Installation, installation
from tests.faults.traffic import Sender

WINDOW_SECONDS = 2
STILL_SECONDS = 6.0  # longer than streams waits for a node (installation.py: 4), and than the window
MOST_KILLS = 10
_SCHEMA = fastavro.parse_schema(
    json.loads(Path(schemas.avro.__file__).with_name("FlowRecord.1.avsc").read_text()), named_schemas={}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """It runs, on the default ports; nothing passes any more."""

    system: Installation
    router: router.Router
    flows: Totals  # what must be counted
    packets: Totals  # the same, of the topic that has no records
    records: int  # in the topic, twice, late and not primary included
    twice: int
    late: int
    not_primary: int


@contextlib.contextmanager
def site() -> Iterator[Site]:
    """Make it. About half a minute."""
    with (
        installation(
            window_seconds=WINDOW_SECONDS,
            also_watched=[router.WATCHED],
            capture={"ring_bytes": 1 << 18},
            kafka={"partitions": 4},
        ) as system,
        router.router() as hosts,
    ):
        system.until(lambda: watched(system, hosts), "the router's interfaces are watched")
        with Sender(system.sends, rate=2_000), hosts.conversations():
            system.mind(2 * WINDOW_SECONDS)
            producer = system.parts["producer"]
            producer.signal(signal.SIGSTOP)
            system.mind(STILL_SECONDS)
            producer.signal(signal.SIGCONT)
            system.mind(2 * WINDOW_SECONDS)
            for _ in range(MOST_KILLS):
                streams = system.streams[0]
                streams.kill()
                streams.release()
                system.until(lambda: system.health(STREAMS).get("rows_stored", 0) > 0, "streams stores again")
                if max(Counter(record["record_id"] for record in flow_records(system.kafka)).values()) > 1:
                    break
        system.parts["producer"].stop()
        code, audit = check.audit(system, wait=120)
        assert code == 0, f"{audit['message']}\n{system.logs()}"
        yield _site(system, hosts)


def watched(system: Installation, hosts: router.Router) -> bool:
    """Whether both ends of the router are."""
    return set(hosts.ends) <= set(system.health(PRODUCER).get("interfaces", ()))


def _site(system: Installation, hosts: router.Router) -> Site:
    truth = system.rows(
        "SELECT count() AS records, sum(packets + packets_rev) AS packets, sum(bytes + bytes_rev) AS bytes "
        "FROM flows WHERE primary"
    )[0]
    kernel = system.rows(
        "SELECT sum(emitted_packets + coalesced_packets) AS packets, sum(emitted_bytes + coalesced_bytes) AS bytes "
        "FROM ledger FINAL WHERE primary"
    )[0]
    assert (truth["packets"], truth["bytes"]) == (kernel["packets"], kernel["bytes"]), "stored is not what was seen"
    stored = {row["record_id"] for row in system.rows("SELECT record_id FROM flows")}
    found: list[dict[str, Any]] = []

    def all_there() -> bool:
        found[:] = flow_records(system.kafka)
        return {record["record_id"] for record in found} == stored

    system.until(all_there, "the topic has each row of the table")
    one_of_each = {record["record_id"]: record for record in found}
    assert all(record == one_of_each[record["record_id"]] for record in found), "what came twice is not the same"
    coalesced = system.rows("SELECT sum(coalesced_packets) AS packets FROM ledger FINAL WHERE primary")[0]["packets"]
    times = Counter(record["record_id"] for record in found)
    made = Site(
        system=system,
        router=hosts,
        flows=Totals(**truth),
        packets=Totals(**kernel),
        records=len(found),
        twice=sum(count - 1 for count in times.values()),
        late=sum(record["revision"] > 0 for record in found),
        not_primary=sum(not record["primary"] for record in found),
    )
    assert min(made.twice, made.late, made.not_primary, coalesced) > 0, f"nothing hard is in the topics: {made}"
    return made


def flow_records(bootstrap: str) -> list[dict[str, Any]]:
    """All messages of ayaflow.flows, as they are."""
    found = []
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "nobody", "enable.auto.commit": False})
    try:
        for number in consumer.list_topics("ayaflow.flows", timeout=60).topics["ayaflow.flows"].partitions:
            _, end = consumer.get_watermark_offsets(TopicPartition("ayaflow.flows", number), timeout=60)
            consumer.assign([TopicPartition("ayaflow.flows", number, 0)])
            position = 0
            while position < end:
                for message in consumer.consume(10_000, 1.0):
                    value, offset = message.value(), message.offset()
                    assert not message.error()
                    assert value is not None
                    assert offset is not None
                    record = fastavro.schemaless_reader(io.BytesIO(value[5:]), _SCHEMA, None)
                    assert isinstance(record, dict)
                    found.append(record)
                    position = offset + 1
    finally:
        consumer.close()
    return found
