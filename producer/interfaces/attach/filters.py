"""Hooks by TC filters, where the kernel has no TCX; by pyroute2. Runs in the short-lived child only.

What is ours is told by its name, which the kernel keeps with the filter: `ayaflow:NODE:DIRECTION@RUN`, with `+qdisc`
behind it when the clsact qdisc is ours too. So it can be found and removed by anyone, after any kind of death. RUN is
the ring's id: a filter of another run is replaced in one step, so that each packet passes one of the two.

A clsact qdisc and an `ingress` qdisc have the same place. On somebody's `ingress` qdisc we see what comes in, and not
what leaves.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Collection, Iterator
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from producer.interfaces import namespaces
from producer.interfaces.attach.hook import Hook
from producer.kernel.bpfsys import closing
from producer.kernel.pins import PROGRAMS

PRIORITY = 17  # before filters that were given none (they begin at 49152), and unlikely to be another's
NAME = "ayaflow:"
OWN_QDISC = "+qdisc"
HOOKS = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}
PLACES = {"clsact": ("ingress", "egress"), "ingress": ("ingress",)}
"""Which hooks a qdisc has, by its kind; those of other kinds have none."""

Load = Callable[[int], int]
"""Loads the entry program of a direction -> its descriptor. Raises OSError."""


class Filters:
    """The filters of a node in one network namespace. All raise OSError."""

    def __init__(self, route: Any, *, node: str, run: str) -> None:
        self._route, self._node, self._run = route, node, run
        with _as_os_error():
            self._qdiscs = _qdiscs(route)

    def of_node(self, ifindex: int) -> dict[str, tuple[Any, str]]:
        """Message and name of the node's filters, of any run, by hook."""
        with _as_os_error():
            return {
                place: (message, label)
                for place, message, label in _ours(self._route, ifindex, self._qdiscs.get(ifindex))
                if _is_of(label, self._node, place)
            }

    def are_current(self, hook: Hook, found: dict[str, tuple[Any, str]]) -> bool:
        """Whether those that were found are of this run, have the right slot, and are all that can be there."""
        return all(
            self._is_current(found.get(place), hook) for place in PLACES[self._qdiscs.get(hook.ifindex, "clsact")]
        )

    def sees_all(self, ifindex: int) -> bool:
        """Whether packets of both directions pass a filter there."""
        return self._qdiscs.get(ifindex) != "ingress"

    def put(self, hook: Hook, found: dict[str, tuple[Any, str]], load: Load) -> None:
        """Put ours on an interface, in the place of those that were found."""
        with _as_os_error():
            ours = self._ensure_qdisc(hook.ifindex)
            for place in PLACES[self._qdiscs[hook.ifindex]]:
                with closing(load(PROGRAMS.index(place))) as program:
                    self._put(hook, place, program, found.get(place), ours=ours)

    def take_over(self, hook: Hook, found: dict[str, tuple[Any, str]], load: Load) -> None:
        """Put ours in the place of those that were found, and nowhere else."""
        with _as_os_error():
            for place, there in found.items():
                with closing(load(PROGRAMS.index(place))) as program:
                    self._put(hook, place, program, there, ours=there[1].endswith(OWN_QDISC))

    def remove(self, ifindex: int) -> None:
        """Remove the node's filters, and the qdisc when it was ours and is empty now."""
        with _as_os_error():
            _detach_from(self._route, ifindex, self._qdiscs.get(ifindex), self._node, str(ifindex))

    def _is_current(self, found: tuple[Any, str] | None, hook: Hook) -> bool:
        if found is None:
            return False
        message, label = found
        slot = message.get_attr("TCA_OPTIONS").get_attr("TCA_BPF_CLASSID") or 0
        return slot == hook.slot and label.removesuffix(OWN_QDISC).endswith(f"@{self._run}")

    def _put(self, hook: Hook, place: str, program: int, found: tuple[Any, str] | None, *, ours: bool) -> None:
        command, handle = ("add-filter", 0) if found is None else ("replace-filter", found[0]["handle"])
        self._route.tc(
            command,
            "bpf",
            hook.ifindex,
            handle,
            fd=program,
            name=f"{NAME}{self._node}:{place}@{self._run}" + (OWN_QDISC if ours else ""),
            parent=HOOKS[place],
            prio=PRIORITY,
            direct_action=True,
            classid=hook.slot,  # for whoever looks: the program has its slot from elsewhere
        )

    def _ensure_qdisc(self, ifindex: int) -> bool:
        """Add the clsact qdisc if there is none. Returns whether it is ayaflow's: this or another node's."""
        if ifindex in self._qdiscs:
            found = _ours(self._route, ifindex, self._qdiscs[ifindex])
            return any(label.endswith(OWN_QDISC) for _, _, label in found)
        self._route.tc("add", "clsact", ifindex)
        self._qdiscs[ifindex] = "clsact"
        return True


@contextlib.contextmanager
def open_filters(*, node: str, run: str) -> Iterator[Filters]:
    """Those of this thread's network namespace. Raises OSError."""
    with IPRoute() as route:
        yield Filters(route, node=node, run=run)


def detach(*, node: str | None = None, keep: Collection[str] = ()) -> list[str]:
    """Remove the filters of a node (None: of all), and the qdiscs that were ours and are empty now, in this namespace.

    `keep`: interfaces that are left alone. Returns a line for each thing that was removed. Raises OSError.
    """
    with IPRoute() as route, _as_os_error():
        links = namespaces.interfaces()
        found = [(index, kind, links.get(index, str(index))) for index, kind in sorted(_qdiscs(route).items())]
        return [
            line
            for index, kind, name in found
            if name not in keep
            for line in _detach_from(route, index, kind, node, name)
        ]


def _detach_from(route: Any, index: int, kind: str | None, node: str | None, name: str) -> list[str]:
    removed, qdisc_is_ours = [], False
    for place, message, label in _ours(route, index, kind):
        if node is not None and not _is_of(label, node, place):
            continue
        with _gone_is_fine():
            route.tc("del-filter", "bpf", index, message["handle"], parent=message["parent"], info=message["info"])
            removed.append(f"filter {label} on {name} {place}")
        qdisc_is_ours |= label.endswith(OWN_QDISC)
    if qdisc_is_ours and not any(_filters(route, index, place) for place in HOOKS):
        with _gone_is_fine():
            route.tc("del", "clsact", index)
            removed.append(f"clsact qdisc on {name}")
    return removed


def _is_of(label: str, node: str, place: str) -> bool:
    return label.partition("@")[0].removesuffix(OWN_QDISC) == f"{NAME}{node}:{place}"


def _qdiscs(route: Any) -> dict[int, str]:
    """The kind of qdisc that has hooks, by ifindex: one dump for all interfaces of the namespace."""
    kinds = {qdisc["index"]: qdisc.get_attr("TCA_KIND") for qdisc in route.get_qdiscs() if qdisc["parent"] == _TOP}
    return {index: kind for index, kind in kinds.items() if kind in PLACES}


_TOP = 0xFFFFFFF1  # TC_H_INGRESS, TC_H_CLSACT


def _filters(route: Any, ifindex: int, place: str) -> list[Any]:
    found: list[Any] = []
    with _gone_is_fine():
        found += route.get_filters(ifindex, 0, HOOKS[place])
    return found


def _ours(route: Any, ifindex: int, kind: str | None) -> list[tuple[str, Any, str]]:
    """(hook, message, name) of ayaflow's filters on a qdisc of this kind."""
    found = []
    for place in PLACES.get(kind or "", ()):
        for message in _filters(route, ifindex, place):
            options = message.get_attr("TCA_OPTIONS") if message.get_attr("TCA_KIND") == "bpf" else None
            label = options.get_attr("TCA_BPF_NAME") if options else None
            if label and label.startswith(NAME):
                found.append((place, message, label))
    return found


@contextlib.contextmanager
def _gone_is_fine() -> Iterator[None]:
    """Interfaces, qdiscs and filters may go while we look at them."""
    try:
        yield
    except NetlinkError as error:
        if error.code not in {errno.ENOENT, errno.ENODEV, errno.EINVAL}:
            raise


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """What the kernel refuses has the same form whichever call it is."""
    try:
        yield
    except NetlinkError as error:
        raise OSError(error.code, os.strerror(error.code)) from error
