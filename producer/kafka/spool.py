"""Batches on disk while Kafka is away: a queue of segment files, read in the order in which it was written.

A segment holds records one after the other: MAGIC, the lengths of header and body, a CRC-32 of both, the header (JSON),
the body (the messages' values). What is cut short at the end of the last segment was being written by a producer that
was killed: it was not promised to anyone, and is cut off. What is broken elsewhere is skipped, and reported.
"""

import json
import os
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import BinaryIO

from producer import folders
from producer.kafka.outbox import Batch, Message

MAGIC = b"ayS1"
SEGMENT_BYTES = 16 << 20
_FRAME = struct.Struct("<4sIII")  # MAGIC, octets of the header, of the body, CRC-32 of both
_PLACE = struct.Struct("<QQ")
_LONGEST = 64 << 20  # of a record: a length beyond it is not one
RESERVE_BYTES = 64 << 20  # of the disk that we leave to others

Place = tuple[int, int]
"""Number of a segment, and an offset in it."""


class Spool:
    """The queue of one node. `read` gives the oldest that was not read, `done` forgets the oldest that was."""

    def __init__(self, directory: Path, *, limit_bytes: int, on_loss: Callable[[int, str], None]) -> None:
        """`on_loss`: gets octets that cannot be read, and where. Raises OSError."""
        self._directory, self._limit, self._on_loss = directory, limit_bytes, on_loss
        folders.make(directory)
        numbers = self._numbers()
        self._sizes = {number: self._path(number).stat().st_size for number in numbers}
        self._head = self._stored_head(numbers)
        self._remove_before(self._head[0])
        self._cursor = self._head
        self._read_ends: deque[Place] = deque()  # of the batches that were read and are not done
        self._last = numbers[-1] if numbers else self._head[0]
        self._output: BinaryIO | None = None
        if self._last in self._sizes:
            self._cut_off_tail(self._last)

    @property
    def bytes(self) -> int:
        """On disk, and not done."""
        return max(0, sum(self._sizes.values()) - self._head[1])

    @property
    def empty(self) -> bool:
        """Nothing is left that is not done."""
        return self.bytes == 0

    def has_room(self, octets: int) -> bool:
        """Whether a batch of this size may be added."""
        if self.bytes + octets > self._limit:
            return False
        disk = os.statvfs(self._directory)
        return disk.f_bavail * disk.f_frsize > octets + RESERVE_BYTES

    def append(self, batch: Batch) -> None:
        """Add a batch; when this returns, it is on disk. Raises OSError, with nothing added."""
        record = _encode(batch)
        if self._sizes.get(self._last, 0) + len(record) > SEGMENT_BYTES and self._sizes.get(self._last):
            self._close_output()
            self._last += 1
        if self._output is None:
            self._output = self._path(self._last).open("ab", buffering=0)
            self._sizes[self._last] = self._output.tell()
        before = self._sizes[self._last]
        try:
            _write_all(self._output, record)
            os.fdatasync(self._output.fileno())
            if not before:
                folders.sync(self._directory)
        except OSError:
            self._output.truncate(before)
            raise
        self._sizes[self._last] = before + len(record)

    def read(self) -> Batch | None:
        """The oldest batch that was not read yet; None: there is no more."""
        while (number := self._cursor[0]) in self._sizes:
            for batch, end in self._records(number, self._cursor[1]):
                self._cursor = (number, end)
                self._read_ends.append(self._cursor)
                return batch
            if number == self._last:
                return None
            self._cursor = (number + 1, 0)
        return None

    def done(self) -> None:
        """The oldest batch that was read is needed no more."""
        self._head = self._read_ends.popleft()
        self._write_head()
        if self._head == (self._last, self._sizes.get(self._last)):  # all is done
            self._close_output()
            self._last += 1
            self._head = self._cursor = (self._last, 0)
            self._write_head()
        self._remove_before(self._head[0])

    def last(self) -> Batch | None:
        """The newest batch of all; None: there is none."""
        for number in sorted(self._sizes, reverse=True):
            begin = self._head[1] if number == self._head[0] else 0
            if batches := [batch for batch, _ in self._records(number, begin, report=False)]:
                return batches[-1]
        return None

    def close(self) -> None:
        """Close the files; everything stays."""
        self._close_output()

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:012d}.spool"

    def _numbers(self) -> list[int]:
        return sorted(int(path.stem) for path in self._directory.glob("*.spool") if path.stem.isdigit())

    def _stored_head(self, numbers: list[int]) -> Place:
        try:
            segment, offset = _PLACE.unpack((self._directory / "head").read_bytes())
        except (OSError, struct.error):
            segment, offset = 0, 0
        if not numbers or segment in numbers:
            return segment, offset if numbers else 0
        return (numbers[0], 0) if segment < numbers[0] else (segment, 0)

    def _write_head(self) -> None:
        """Sixteen octets, written over in one call. Lost, batches are sent twice, which consumers notice."""
        fd = os.open(self._directory / "head", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(fd, _PLACE.pack(*self._head), 0)
        finally:
            os.close(fd)

    def _remove_before(self, number: int) -> None:
        for old in self._numbers():
            if old < number:
                self._path(old).unlink(missing_ok=True)
                self._sizes.pop(old, None)

    def _close_output(self) -> None:
        if self._output is not None:
            self._output.close()
            self._output = None

    def _cut_off_tail(self, number: int) -> None:
        """Cut off what was not written to its end."""
        end = 0
        for _, place in self._records(number, 0, report=False):
            end = place
        os.truncate(self._path(number), end)
        self._sizes[number] = end

    def _records(self, number: int, offset: int, *, report: bool = True) -> Iterator[tuple[Batch, int]]:
        """The whole batches of a segment from an offset on, and where each ends."""
        size = self._sizes[number]
        try:
            file = self._path(number).open("rb")
        except OSError as error:
            if report:
                self._on_loss(size - offset, f"{self._path(number)}: {error.strerror}")
            return
        with file:
            while offset < size:
                found = _decode(file, offset)
                if found is None:
                    begin, offset = offset, _next_whole(file, offset + 1, size)
                    if report:
                        self._on_loss(offset - begin, f"{self._path(number)}, octet {begin}")
                    continue
                batch, offset = found
                yield batch, offset


def _encode(batch: Batch) -> bytes:
    numbers = {field.name: getattr(batch, field.name) for field in fields(Batch) if field.name != "messages"}
    header = json.dumps(numbers | {"messages": [[each.topic, len(each.value)] for each in batch.messages]}).encode()
    body = b"".join(message.value for message in batch.messages)
    return _FRAME.pack(MAGIC, len(header), len(body), zlib.crc32(body, zlib.crc32(header))) + header + body


def _decode(file: BinaryIO, offset: int) -> tuple[Batch, int] | None:
    """The batch at an offset and where it ends; None: there is none that is whole."""
    fd = file.fileno()
    frame = os.pread(fd, _FRAME.size, offset)
    if len(frame) < _FRAME.size or not frame.startswith(MAGIC):
        return None
    _, header_bytes, body_bytes, checksum = _FRAME.unpack(frame)
    if not header_bytes or header_bytes + body_bytes > _LONGEST:  # nothing at all has a checksum of 0
        return None
    octets = os.pread(fd, header_bytes + body_bytes, offset + _FRAME.size)
    if len(octets) < header_bytes + body_bytes or zlib.crc32(octets) != checksum:
        return None
    numbers = json.loads(octets[:header_bytes])
    place, messages = header_bytes, []
    for topic, size in numbers.pop("messages"):
        messages.append(Message(topic=topic, value=octets[place : place + size]))
        place += size
    return Batch(messages=tuple(messages), **numbers), offset + _FRAME.size + len(octets)


def _next_whole(file: BinaryIO, offset: int, size: int) -> int:
    """Where the next whole record of a segment begins, or its end."""
    octets = os.pread(file.fileno(), size - offset, offset)
    place = -1
    while (place := octets.find(MAGIC, place + 1)) >= 0:
        if _decode(file, offset + place) is not None:
            return offset + place
    return size


def _write_all(file: BinaryIO, octets: bytes) -> None:
    rest = memoryview(octets)
    while rest:
        rest = rest[file.write(rest) or 0 :]
