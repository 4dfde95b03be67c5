"""The data of an INSERT, given to ClickHouse through a pipe that it reads as a file.

chDB has an insert by pieces of its own, but it says nothing when the rows cannot be stored: a full disk, a violated
constraint, a view that fails (chDB 4.4; tests/integration/test_clickhouse_server.py). A statement tells of all that.
"""

import array
import fcntl
import os
import termios
import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain
from types import TracebackType
from typing import Self

_LOOK_SECONDS = 0.01


class Feed:
    """Writes pieces into a pipe for as long as the block lasts; `path` is the end to read from.

    When the pieces break off, `kill` is called before the reader sees the end: half of the data must not pass for all.
    It says whether it could, and is called until it can.
    """

    def __init__(self, pieces: Iterator[bytes], kill: Callable[[], bool]) -> None:
        """Takes the first piece at once, so that what fails there fails here."""
        self._pieces = chain([next(pieces, b"")], pieces)
        self._kill = kill
        self._over = threading.Event()
        self._reader, self._writer = os.pipe()
        self._thread = threading.Thread(target=self._write, name="feed")
        self.path = f"/dev/fd/{self._reader}"
        self.error: BaseException | None = None  # why the pieces broke off

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        self._over.set()
        os.close(self._reader)  # who still writes learns that nobody reads
        self._thread.join()

    def _write(self) -> None:
        try:
            for piece in self._pieces:
                rest = memoryview(piece)
                while rest:
                    rest = rest[os.write(self._writer, rest) :]
        except BrokenPipeError:
            pass  # the statement ended before the data did, and says why
        except BaseException as error:  # noqa: BLE001  handed on
            self.error = error
            while not self._over.is_set() and self._unread():
                time.sleep(_LOOK_SECONDS)  # once it reads, it can be killed
            while not self._kill() and not self._over.is_set():
                time.sleep(_LOOK_SECONDS)
        finally:
            os.close(self._writer)

    def _unread(self) -> int:
        waiting = array.array("i", [0])
        fcntl.ioctl(self._writer, termios.FIONREAD, waiting)
        return waiting[0]
