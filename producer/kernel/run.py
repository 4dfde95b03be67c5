"""The pinned parts of a run, opened: ring, counters, flow tables, and the pages that we share with the program."""

import contextlib
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import DecodeError
from producer.capture.epochs import PinnedMaps
from producer.kernel import bpfsys, pins
from producer.kernel.abi import Records, converted
from producer.kernel.layout import Layout
from producer.kernel.ring import Ring, submitted
from producer.kernel.run_state import RunState

STATE_BYTES, LAYOUT_AT = 8192, 1024  # struct state of bpf/event.h, and where in it the layout is written


class Kernel:
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
        self.state = RunState(np.frombuffer(page, layout.state, 1))
        self._config_page = mmap.mmap(fds["config"], mmap.PAGESIZE)
        self._config = np.frombuffer(self._config_page, layout.config, 1)

    def close(self) -> None:
        """Unmap and close everything."""
        with contextlib.suppress(BufferError):  # an error's traceback may hold a span
            self.ring.close()
            del self._config, self.state
            self._config_page.close()
            self._page.close()
        for fd in self._fds.values():
            os.close(fd)

    def reader(self) -> "Ring | Translated":
        """The ring, with records as we want them."""
        same = self.layout.record == self._wanted.record
        return self.ring if same else Translated(self.ring, self._wanted.record)

    def fd(self, name: str) -> int:
        """Of a pinned map."""
        return self._fds[name]

    def live(self, until_ns: int, offset_ns: int) -> None:
        """A producer lives until then, on the monotonic clock; `offset_ns`: from it to the wall clock."""
        self._config["wall_offset_ns"][0] = offset_ns & (1 << 64) - 1
        self._config["alive_until_ns"][0] = until_ns

    def coalesce(self, wanted: bool) -> None:
        """Whether packets are to be added up by flow although there is room for an event each."""
        self._config["coalesce"][0] = wanted

    def interfaces(self) -> dict[int, str]:
        """Names by slot, of all that had one."""
        kind = self.layout.interface
        names = {}
        for slot in range(pins.MAX_INTERFACES):
            octets = bpfsys.map_lookup(self._fds["interfaces"], slot.to_bytes(4, "little"), kind.itemsize)
            name = np.frombuffer(octets, kind)["name"][0].decode()
            if name:
                names[slot] = name
        return names


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


class Switches:
    """What a capture tells the kernel program of a run."""

    def __init__(self, kernel: Kernel, orphan_timeout_seconds: int) -> None:
        self._kernel, self._timeout_ns = kernel, orphan_timeout_seconds * 1_000_000_000

    def live(self, now_ns: int, offset_ns: int) -> None:
        """We live now, on the monotonic clock; `offset_ns`: from it to the wall clock."""
        self._kernel.live(now_ns + self._timeout_ns, offset_ns)

    def coalesce(self, wanted: bool) -> None:
        """See Kernel."""
        self._kernel.coalesce(wanted)


def begin_run(directory: Path, layout: Layout, *, ring_id: int, opened_ns: int) -> Kernel:
    """Open what the child has just loaded and pinned, and write down whose it is."""
    fds, page = _opened(directory)
    RunState(np.frombuffer(page, layout.state, 1)).begin(ring_id=ring_id, opened_ns=opened_ns)
    text = layout.text().encode()
    page[LAYOUT_AT : LAYOUT_AT + len(text)] = text
    return Kernel(directory, layout, layout, fds, page)


def open_run(directory: Path, wanted: Layout) -> Kernel | None:
    """Open what an earlier run has pinned; None: nothing that can be gone on from. Raises OSError.

    `wanted`: how its records are to be laid out for us.
    """
    try:
        fds, page = _opened(directory)
    except FileNotFoundError:
        return None
    try:
        layout = Layout.parse(page[LAYOUT_AT:].split(b"\0", 1)[0].decode("utf-8", "replace"))
    except DecodeError:  # killed before it could write it down: then nothing was attached
        page.close()
        for fd in fds.values():
            os.close(fd)
        return None
    return Kernel(directory, layout, wanted, fds, page)


def _opened(directory: Path) -> tuple[dict[str, int], mmap.mmap]:
    fds: dict[str, int] = {}
    with contextlib.ExitStack() as undo:
        for name in pins.MAPS:
            fds[name] = bpfsys.obj_get(directory / name)
            undo.callback(os.close, fds[name])
        page = mmap.mmap(fds["state"], STATE_BYTES)
        undo.pop_all()
    return fds, page
