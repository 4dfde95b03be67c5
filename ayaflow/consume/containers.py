"""Avro object container files: what sinks such as Kafka Connect's for S3, GCS and HDFS, or Spark, keep of a topic.

The records of a file have its schema, and stand in it without Confluent's framing.
"""

import io
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any, BinaryIO, NoReturn

import fastavro

from common.errors import DecodeError
from schemas.avro.codec import Codec
from schemas.avro.registry import HEADER

MAGIC = b"Obj\x01"
_FRAME = HEADER.pack(0, 1)


class _OneSchema:
    """The registry of a file, which is only read."""

    def __init__(self, schema: str) -> None:
        self._schema = schema

    def schema_id(self, name: str) -> NoReturn:
        raise NotImplementedError(name)

    def schema(self, schema_id: int) -> str:
        return self._schema

    def at_hand(self, schema_id: int) -> bool:
        return True

    def close(self) -> None:
        pass


class Container:
    """One file, open."""

    def __init__(self, file: BinaryIO) -> None:
        """Raises DecodeError when it does not begin as one, or is compressed by what is not installed."""
        self._blocks = _asked(lambda: fastavro.block_reader(file))
        self._schema = _asked(lambda: fastavro.parse_schema(self._blocks.writer_schema))
        self.codec = Codec(registry=_OneSchema(self._blocks.metadata["avro.schema"]))

    def messages(self, most: int) -> Iterator[list[bytes]]:
        """Its records, framed for `codec`, up to `most` at a time. Raises DecodeError where the file is harmed."""
        records = self._records()
        while found := list(islice(records, most)):
            yield found

    def _records(self) -> Iterator[bytes]:
        while (block := _asked(lambda: next(self._blocks, None))) is not None:
            octets: io.BytesIO = block.bytes_
            whole, begin = octets.getvalue(), 0
            for _ in range(block.num_records):
                end = _asked(partial(self._end, octets))
                yield _FRAME + whole[begin:end]
                begin = end
            if begin != len(whole):
                raise DecodeError("octets are left behind the last record of a block")

    def _end(self, octets: io.BytesIO) -> int:
        """Where the next record ends, which only reading it says."""
        fastavro.schemaless_reader(octets, self._schema)
        return octets.tell()


def _asked(question: Callable[[], Any]) -> Any:
    """What fastavro answers. It raises what it met: of the codec, of a length, of a type."""
    try:
        return question()
    except Exception as error:
        raise DecodeError(str(error) or type(error).__name__) from error
