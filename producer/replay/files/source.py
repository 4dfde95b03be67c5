"""The octets of a capture: a file or standard input, as they are or compressed, a chunk at a time."""

import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

from common.errors import SettingsError
from producer.replay.files.frames import BrokenCaptureError

CHUNK_BYTES = 15 << 17  # with what was left over, nearly always one block of program.BLOCK_BYTES
_READ_BYTES = 1 << 16
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_NAMES = (".gz", ".zst", ".zstd", ".pcapng", ".pcap", ".cap", ".dmp", ".ntar")


class Reader(Protocol):
    """Where octets come from."""

    def read(self, size: int, /) -> bytes:
        """At most `size` octets; none at the end."""


class Counted:
    """Counts what was read of a file, and tells."""

    def __init__(self, raw: BinaryIO, first: bytes, tell: Callable[[int], None]) -> None:
        self._raw, self._first, self._tell = raw, first, tell

    def read(self, size: int, /) -> bytes:
        """See Reader."""
        octets, self._first = (self._first, b"") if self._first else (self._raw.read(size), b"")
        self._tell(len(octets))
        return octets


class Gunzip:
    """Decompresses gzip, of several members too; gives all that could be read before it fails."""

    def __init__(self, raw: Reader) -> None:
        self._raw, self._rest, self._ended = raw, b"", False
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)

    def read(self, size: int, /) -> bytes:
        """See Reader. Raises zlib.error and EOFError."""
        while not self._ended:
            compressed = self._rest or self._raw.read(_READ_BYTES)
            if not compressed:
                raise EOFError("it is cut off")
            octets = self._inflate.decompress(compressed, size)
            self._rest = self._inflate.unconsumed_tail
            if self._inflate.eof:
                self._next_member(self._inflate.unused_data)
            if octets:
                return octets
        return b""

    def _next_member(self, rest: bytes) -> None:
        while not rest.lstrip(b"\0"):  # zeros may fill up a tape's block
            rest = self._raw.read(_READ_BYTES)
            if not rest:
                self._ended = True
                return
        self._rest = rest
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)


def _unzstd(raw: Reader) -> Reader:
    import pyarrow as pa  # 30 MB that most captures do not need

    class File:
        closed = False

        def read(self, size: int = -1) -> bytes:
            return raw.read(size if size >= 0 else _READ_BYTES)

        def close(self) -> None:
            pass

    stream: Reader = pa.CompressedInputStream(pa.PythonFile(File(), mode="r"), "zstd")
    return stream


class Source:
    """One capture, opened. `name` is what people call it: the path, or `standard input`."""

    def __init__(self, path: str, tell: Callable[[int], None]) -> None:
        """`-`: standard input. `tell` is called with the number of octets of each read. Raises SettingsError."""
        self.name = "standard input" if path == "-" else path
        try:
            self._raw: BinaryIO = sys.stdin.buffer if path == "-" else Path(path).open("rb")  # noqa: SIM115
            first = self._raw.read(_READ_BYTES)
        except OSError as error:
            raise SettingsError(f"cannot read {path}: {error.strerror}; give the name of a capture file") from error
        counted: Reader = Counted(self._raw, first, tell)
        self.compression = "gzip" if first.startswith(_GZIP) else "zstd" if first.startswith(_ZSTD) else None
        self._reader = {"gzip": Gunzip, "zstd": _unzstd}[self.compression](counted) if self.compression else counted
        self.data = bytearray()  # what is not used yet
        self.position = 0  # of data's first octet in the (uncompressed) capture

    def more(self, used: int) -> bool:
        """Forget the first `used` octets of `data`, and append some; False at the end. `data` is a new object then.

        Raises BrokenCaptureError when the file cannot be read or decompressed.
        """
        try:
            octets = self._reader.read(_READ_BYTES if self.compression else CHUNK_BYTES)
        except (OSError, EOFError, zlib.error) as error:
            self.skip(used)
            raise self.broken(len(self.data), f"cannot be read on ({error})") from error
        self.skip(used, octets)
        return bool(octets)

    def skip(self, used: int, octets: bytes = b"") -> None:
        """Forget the first `used` octets."""
        self.data = self.data[used:]
        self.data += octets
        self.position += used

    def broken(self, at: int, what: str) -> BrokenCaptureError:
        """The error that the capture `what` at `data[at]`."""
        where = (
            f"byte {self.position + at:,} of its uncompressed content"
            if self.compression
            else (f"byte {self.position + at:,}")
        )
        return BrokenCaptureError(f"{self.name} {what} at {where}")

    def close(self) -> None:
        """Close the file."""
        if self._raw is not sys.stdin.buffer:
            self._raw.close()


def stem(path: str) -> str:
    """A capture's name without folder and endings: `/tmp/office.pcap.gz` -> `office`."""
    name = "stdin" if path == "-" else Path(path).name
    while Path(name).suffix.lower() in _NAMES:
        name = Path(name).stem
    return name
