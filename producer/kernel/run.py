"""The pinned parts of a run, opened: ring, counters, flow tables, and the pages that we share with the program."""

import contextlib
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import DecodeError
from producer.kernel import bpfsys, pins
from producer.kernel.abi import STATE_PAGE, Records, converted
from producer.kernel.layout import Layout
from producer.kernel.maps import ConfigPage, PinnedMaps, PinnedTables
from producer.kernel.ring import CopyRing, Ring, submitted
from producer.kernel.run_state import RunState

LAYOUT_AT = 1024  # where in struct state the layout is written


class PinnedRun:
    """The maps of one run."""

    def __init__(self, directory: Path, layout: Layout, wanted: Layout, fds: dict[str, int], page: mmap.mmap) -> None:
        """See `open_run` and `begin_run`. Takes over the descriptors and the page."""
        self.directory, self.layout, self._wanted = directory, layout, wanted
        self._fds, self._page = fds, page
        self.ring = Ring(fds["events"], layout.ring_bytes, layout.record)
        self.maps = PinnedMaps(
            open_epoch_fd=fds["open_epoch"],
            counter_fds=(fds["counters_a"], fds["counters_b"]),
            flow_fds=(fds["flows_a"], fds["flows_b"]),
            layout=layout,
            wanted=wanted,
        )
        self.copies = CopyRing(fds[pins.COPIES], layout.copies_bytes, layout.copy) if layout.copies_bytes else None
        """Of a program that inspects payload."""
        self.tables = PinnedTables(fds["interfaces"], fds["watched"], layout)
        self.state = RunState(np.frombuffer(page, layout.state, 1))
        self.config = ConfigPage(fds["config"], layout.config)

    def close(self) -> None:
        """Unmap and close everything."""
        with contextlib.suppress(BufferError):  # an error's traceback may hold a span
            self.ring.close()
            if self.copies is not None:
                self.copies.close()
            self.config.close()
            del self.state
            self._page.close()
        for fd in self._fds.values():
            os.close(fd)

    def reader(self) -> "Ring | Translated":
        """The ring, with records as we want them."""
        same = self.layout.record == self._wanted.record
        return self.ring if same else Translated(self.ring, self._wanted.record)


class Translated:
    """A ring of another version, with records in our layout."""

    def __init__(self, ring: Ring, record: np.dtype[Any]) -> None:
        self._ring, self._record = ring, record
        self.size, self.stride = ring.size, ring.stride
        self.producer_position, self.readable, self.release = ring.producer_position, ring.readable, ring.release

    def span(self, start: int, end: int) -> Records:
        """See ring.Ring."""
        found = self._ring.span(start, end)
        events = submitted(found)
        records = converted(found, self._record)
        records["header"][events] = self._record["event"].itemsize
        return records


OpenPin = Callable[[Path], int]
"""Opens what is pinned -> its descriptor. Raises OSError."""


def begin_run(
    directory: Path, layout: Layout, *, ring_id: int, opened_ns: int, open_pin: OpenPin = bpfsys.obj_get
) -> PinnedRun:
    """Open what the child has just loaded and pinned, and write down whose it is."""
    fds, page = _opened(directory, open_pin)
    _open_copies(fds, directory, layout, open_pin)
    RunState(np.frombuffer(page, layout.state, 1)).begin(ring_id=ring_id, opened_ns=opened_ns)
    text = layout.text().encode()
    page[LAYOUT_AT : LAYOUT_AT + len(text)] = text
    return PinnedRun(directory, layout, layout, fds, page)


def open_run(directory: Path, wanted: Layout, *, open_pin: OpenPin = bpfsys.obj_get) -> PinnedRun | None:
    """Open what an earlier run has pinned; None: nothing that can be gone on from. Raises OSError.

    `wanted`: how its records are to be laid out for us.
    """
    try:
        fds, page = _opened(directory, open_pin)
    except FileNotFoundError:
        return None
    try:
        layout = Layout.parse(page[LAYOUT_AT:].split(b"\0", 1)[0].decode("utf-8", "replace"))
    except DecodeError:  # killed before it could write it down: then nothing was attached
        page.close()
        for fd in fds.values():
            os.close(fd)
        return None
    _open_copies(fds, directory, layout, open_pin)
    return PinnedRun(directory, layout, wanted, fds, page)


def _open_copies(fds: dict[str, int], directory: Path, layout: Layout, open_pin: OpenPin) -> None:
    if layout.copies_bytes:
        fds[pins.COPIES] = open_pin(directory / pins.COPIES)


def _opened(directory: Path, open_pin: OpenPin) -> tuple[dict[str, int], mmap.mmap]:
    fds: dict[str, int] = {}
    with contextlib.ExitStack() as undo:
        for name in pins.MAPS:
            fds[name] = open_pin(directory / name)
            undo.callback(os.close, fds[name])
        page = mmap.mmap(fds["state"], STATE_PAGE.itemsize)
        undo.pop_all()
    return fds, page
