"""The pinned maps of a run by what they are for: counters and flow tables, interfaces, what the program is told."""

import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

from producer.kernel import batches, bpfsys
from producer.kernel.abi import BUDGET_NS, COUNTERS, MAX_INTERFACES, WATCHED_KEY, Records, converted, interface
from producer.kernel.layout import Layout
from producer.kernel.run_state import RunState

_ONE = np.dtype([("one", "u1")])


def fresh_counters(epoch: int, cpus: int, layout: np.dtype[Any] = COUNTERS) -> npt.NDArray[np.void]:
    """Zero counters of an epoch, a row a CPU."""
    rows = np.zeros(cpus, layout)
    rows["epoch"] = epoch
    return rows


class PinnedMaps:
    """See capture.epochs.KernelMaps."""

    def __init__(
        self,
        *,
        open_epoch_fd: int,
        counter_fds: tuple[int, int],
        flow_fds: tuple[int, int],
        layout: Layout,
        wanted: Layout,
    ) -> None:
        """`counter_fds`, `flow_fds`: of the maps for odd epochs, and for even ones. `wanted`: what flows are to be."""
        self._outer, self._counters, self._flows = open_epoch_fd, counter_fds, flow_fds
        self._layout, self._wanted = layout, wanted
        self._cpus = bpfsys.possible_cpus()

    def open(self, epoch: int) -> None:
        """Let the kernel count in this epoch's maps. The update waits for an RCU grace period: 10 ms or so."""
        bpfsys.map_update(self._outer, bytes(4), _u32(self._of(self._counters, epoch)))

    def counters(self, epoch: int, key: int) -> npt.NDArray[np.void]:
        """The epoch's counters at `key`, a row a CPU."""
        octets = bpfsys.map_lookup(
            self._of(self._counters, epoch), _u32(key), self._layout.counters.itemsize * self._cpus
        )
        return np.frombuffer(octets, self._layout.counters)

    def zero(self, epoch: int, key: int) -> None:
        """Zero the counters at `key`, and note the epoch there."""
        rows = fresh_counters(epoch, self._cpus, self._layout.counters)
        bpfsys.map_update(self._of(self._counters, epoch), _u32(key), rows)

    def flows(self, epoch: int) -> tuple[Records, Records]:
        """Keys and values of a closed epoch's flow table, in the order of its buckets: nothing writes to it."""
        keys, values = batches.map_read_all(
            self._of(self._flows, epoch), self._layout.coalesced_key, self._layout.coalesced, self._layout.flow_entries
        )
        return keys, converted(values, self._wanted.coalesced)

    def clear(self, epoch: int, keys: Records) -> None:
        """Remove these from the epoch's flow table."""
        batches.map_delete_all(self._of(self._flows, epoch), keys)

    @staticmethod
    def _of(fds: tuple[int, int], epoch: int) -> int:
        return fds[1 - (epoch & 1)]


class PinnedTables:
    """See interfaces.hooks.KernelTables."""

    def __init__(self, interfaces_fd: int, watched_fd: int, layout: Layout) -> None:
        self._interfaces, self._watched, self._interface = interfaces_fd, watched_fd, layout.interface

    def set_interface(self, slot: int, flags: int, namespace: int, name: str) -> None:
        """Set struct interface of a slot."""
        bpfsys.map_update(self._interfaces, _u32(slot), interface(flags, namespace, name, self._interface))

    def names(self) -> dict[int, str]:
        """Names by slot, of all that had one."""
        names = {}
        for slot in range(MAX_INTERFACES):
            octets = bpfsys.map_lookup(self._interfaces, _u32(slot), self._interface.itemsize)
            name = np.frombuffer(octets, self._interface)["name"][0].decode("utf-8", "backslashreplace")
            if name:
                names[slot] = name
        return names

    def watch(self, place: tuple[int, int]) -> None:
        """What comes in there, by namespace and ifindex, is counted there."""
        bpfsys.map_update(self._watched, _watched(place), b"\1")

    def unwatch(self, place: tuple[int, int]) -> None:
        """No more."""
        bpfsys.map_delete(self._watched, _watched(place))

    def places(self) -> set[tuple[int, int]]:
        """All that `watch` has named."""
        keys, _ = batches.map_read_all(self._watched, WATCHED_KEY, _ONE, MAX_INTERFACES)
        return {(int(key["namespace"]), int(key["ifindex"])) for key in keys}


class ConfigPage:
    """struct config, mapped: what the program reads at each packet."""

    def __init__(self, fd: int, layout: np.dtype[Any]) -> None:
        self._page = mmap.mmap(fd, mmap.PAGESIZE)
        self._config = np.frombuffer(self._page, layout, 1)

    def close(self) -> None:
        """Unmap."""
        del self._config
        self._page.close()

    @property
    def alive_until_ns(self) -> int:
        """Until when a producer lives, as far as the program knows, on the monotonic clock; 0: there was none yet."""
        return int(self._config["alive_until_ns"][0])

    def live(self, until_ns: int, offset_ns: int) -> None:
        """A producer lives until then, on the monotonic clock; `offset_ns`: from it to the wall clock."""
        self._config["wall_offset_ns"][0] = offset_ns & (1 << 64) - 1
        self._config["alive_until_ns"][0] = until_ns

    def inspect(self, a_second: int) -> None:
        """At most so many copies a second."""
        if "copies" in (self._config.dtype.names or ()):  # else another version has made it
            self._config["copies"][0] = max(1, a_second * BUDGET_NS // 1_000_000_000)

    def coalesce(self, wanted: bool) -> None:
        """Whether packets are to be added up by flow although there is room for an event each."""
        self._config["coalesce"][0] = wanted


class Life:
    """See capture.heartbeat.Program."""

    def __init__(self, config: ConfigPage, state: RunState, orphan_timeout_seconds: int) -> None:
        self._config, self._state, self._timeout_ns = config, state, orphan_timeout_seconds * 1_000_000_000

    def live(self, now_ns: int, offset_ns: int) -> int:
        """See Program."""
        until = self._config.alive_until_ns
        idle = now_ns - until if until else 0
        if idle > 0:  # written down before the program counts again: who kills us now must not make it forgotten
            self._state.was_idle(until, now_ns)
        self._config.live(now_ns + self._timeout_ns, offset_ns)
        return max(0, idle)


def _u32(value: int) -> bytes:
    return np.uint32(value).tobytes()


def _watched(place: tuple[int, int]) -> bytes:
    return np.array(place, WATCHED_KEY).tobytes()
