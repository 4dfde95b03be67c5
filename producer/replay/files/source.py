"""The octets of a capture: a file or standard input, as they are or compressed, a chunk at a time."""

import contextlib
import os
import select
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

from common.errors import SettingsError
from common.stopping import Stop
from producer.replay.files.decompress import READ_BYTES, Reader, decompressor
from producer.replay.files.frames import BrokenCaptureError

CHUNK_BYTES = 15 << 17  # with what was left over, nearly always one block of program.BLOCK_BYTES
_PATIENCE_SECONDS = 3600.0  # of one look; then comes the next
_NAMES = (".gz", ".zst", ".zstd", ".pcapng", ".pcap", ".cap", ".dmp", ".ntar")


class Opened:
    """The octets of a file or a pipe as they come, counted; none any more when somebody wants us to stop."""

    def __init__(self, path: str, tell: Callable[[int], None], stop: Stop | None) -> None:
        """Raises OSError."""
        self._tell, self._stop, self._owned = tell, stop, path != "-"
        # a named pipe that nobody writes to yet would hold `open`
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK) if self._owned else sys.stdin.fileno()

    def read(self, size: int, /) -> bytes:
        """See Reader. Raises OSError."""
        while self._wait():
            with contextlib.suppress(BlockingIOError):
                octets = os.read(self._fd, size)
                self._tell(len(octets))
                return octets
        return b""

    def _wait(self) -> bool:
        """Until there is something to read. False: we are to stop."""
        if self._stop is None:
            select.select([self._fd], [], [])
            return True
        while not self._stop.is_set():
            if self._stop.wait(_PATIENCE_SECONDS, (self._fd,)):
                return True
        return False

    def close(self) -> None:
        """Close the file."""
        if self._owned:
            os.close(self._fd)


class _Behind:
    """Octets that were read already, and what comes behind them."""

    def __init__(self, first: bytes, raw: Opened) -> None:
        self._first, self._raw = first, raw

    def read(self, size: int, /) -> bytes:
        """See Reader."""
        octets, self._first = self._first, b""
        return octets or self._raw.read(size)


class Source:
    """One capture, opened. `name` is what people call it: the path, or `standard input`."""

    def __init__(self, path: str, tell: Callable[[int], None], stop: Stop | None = None) -> None:
        """`-`: standard input. `tell` is called with the number of octets of each read; `stop` ends a read that waits.

        Raises SettingsError.
        """
        self.name = "standard input" if path == "-" else path
        first = b""
        try:
            with contextlib.ExitStack() as opened:
                self._raw = opened.enter_context(contextlib.closing(Opened(path, tell, stop)))
                while len(first) < 4 and (octets := self._raw.read(READ_BYTES)):
                    first += octets
                opened.pop_all()
        except OSError as error:
            raise SettingsError(f"cannot read {path}: {error.strerror}; give the name of a capture file") from error
        found = decompressor(first)
        whole = _Behind(first, self._raw)
        self.compression = found.name if found else None
        self._reader: Reader = found(whole) if found else whole
        self.data = bytearray()  # what is not used yet
        self.position = 0  # of data's first octet in the (uncompressed) capture

    def more(self, used: int) -> bool:
        """Forget the first `used` octets of `data`, and append some; False at the end. `data` is a new object then.

        Raises BrokenCaptureError when the file cannot be read or decompressed.
        """
        try:
            octets = self._reader.read(READ_BYTES if self.compression else CHUNK_BYTES)
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
        self._raw.close()


def stem(path: str) -> str:
    """A capture's name without folder and endings: `/tmp/office.pcap.gz` -> `office`."""
    name = "stdin" if path == "-" else Path(path).name
    while Path(name).suffix.lower() in _NAMES:
        name = Path(name).stem
    return name
