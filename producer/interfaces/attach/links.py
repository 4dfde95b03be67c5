"""Hooks by TCX links: beside any qdisc and any other program, first of all, in all namespaces by one kind of call.

A link lives as long as its pin, in the node's folder: `hooks-RUN/SLOT-DIRECTION`. The place of the pin says what is
attached: it gets there after the run's entry program is. So a slot has one link, wherever its interface has moved to,
and whoever removes the pin detaches it.
"""

import contextlib
import errno
import itertools
from collections.abc import Collection, Iterable
from functools import cached_property
from pathlib import Path

from producer.interfaces import namespaces
from producer.interfaces.attach import entry
from producer.interfaces.attach.entry import Entries
from producer.interfaces.attach.hook import Hook, Seen
from producer.kernel import bpfsys, pins, tcx
from producer.kernel.bpfsys import closing
from producer.kernel.pins import PROGRAMS
from producer.kernel.tcx import TCX, Link


class Links:
    """The links of a run. Where a hook is meant, this thread is in its namespace."""

    def __init__(self, directory: Path, run: str) -> None:
        """`directory`: the node's."""
        self._directory, self._run, self._folder = directory, run, pins.hooks_directory(directory, run)

    def look(self, hook: Hook) -> Seen:
        """Ask the kernel. Raises OSError."""
        found = [self._look(hook, direction) for direction in range(len(TCX))]
        return Seen(
            in_place=all(each is not None for each in found),
            before=tuple(name for each in found if each is not None for name in each),
        )

    def put(self, hook: Hook, entries: Entries, *, marks: int | None = None) -> None:
        """Attach both, in the place of those that the node has there. `marks`: see Entries.load. Raises OSError."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for direction in range(len(TCX)):
            with closing(entries.load(hook.slot, direction, marks=marks)) as program:
                self._put(hook, direction, program)

    def _pin(self, slot: int, direction: int) -> Path:
        return pins.slot_pins(self._directory, self._run, slot)[direction]

    def _look(self, hook: Hook, direction: int) -> list[str] | None:
        """Others' programs before ours; None: ours is not there."""
        pinned = _pinned(self._pin(hook.slot, direction))
        if pinned is None or pinned.ifindex != hook.ifindex:
            return None
        there = tcx.query(hook.ifindex, TCX[direction])
        if pinned.number not in there.links or _name(pinned.program) not in {entry.name_of(hook.slot, direction), None}:
            return None  # the interface has moved away, or somebody has put a program in the place of ours
        before = there.programs[: there.links.index(pinned.number)]
        names = {number: _name(number) for number in before}
        return [
            f"{name or f'program {number}'} ({PROGRAMS[direction]})"
            for number, name in names.items()
            if not (name or "").startswith(entry.PREFIX)
        ]

    def _put(self, hook: Hook, direction: int, program: int) -> None:
        pin = self._pin(hook.slot, direction)
        there = tcx.query(hook.ifindex, TCX[direction]).links
        old = next((self._of_node[number] for number in there if number in self._of_node), None)
        if old is not None:
            with closing(bpfsys.obj_get(old)) as link:
                tcx.update(link, program)
            if old != pin:
                _detach(pin)  # of what had the slot before
                old.rename(pin)
            return
        _detach(pin)
        with closing(tcx.attach(program, hook.ifindex, TCX[direction])) as link:
            bpfsys.obj_pin(link, pin)
            if described := tcx.describe(link):
                self._of_node[described.number] = pin

    @cached_property
    def _of_node(self) -> dict[int, Path]:
        """Pins of the node, of any run, by the numbers of their links."""
        paths = [path for folder in pins.hooks_directories(self._directory) for path in folder.iterdir()]
        return {link.number: path for path in paths if (link := _pinned(path))}


def look_at(directory: Path, run: str, hooks: Iterable[Hook]) -> dict[int, Seen]:
    """What is there now, by slot; what cannot be looked at is not in place."""
    hooks = sorted(hooks, key=lambda hook: hook.namespace or "")
    links, seen = Links(directory, run), {hook.slot: Seen(in_place=False) for hook in hooks}
    for namespace, there in itertools.groupby(hooks, lambda hook: hook.namespace):
        with contextlib.suppress(OSError), namespaces.entered(namespace):
            for hook in there:
                with contextlib.suppress(OSError):
                    seen[hook.slot] = links.look(hook)
    return seen


def detach(*, node: str | None, keep: Collection[str] = ()) -> list[str]:
    """Detach what a node (None: any) has on the interfaces of this thread's network namespace.

    `keep`: names of interfaces that are left alone. Returns a line for each hook that was removed. Raises OSError.
    """
    removed = []
    for ifindex, name in namespaces.interfaces().items() if tcx.is_known() else ():
        for direction in range(len(TCX)) if name not in keep else ():
            # it went meanwhile; or we may only open what has a pin (no CAP_SYS_ADMIN): those are the caller's
            with contextlib.suppress(FileNotFoundError, PermissionError):
                removed += [
                    f"{line} on {name} {PROGRAMS[direction]}" for line in _detach_from(ifindex, direction, node)
                ]
    return removed


def _detach_from(ifindex: int, direction: int, node: str | None) -> list[str]:
    """The labels of what was removed."""
    removed = []
    try:
        there = tcx.query(ifindex, TCX[direction])
    except OSError as error:
        if error.errno == errno.ENODEV:
            return []
        raise
    for program, number in zip(there.programs, there.links, strict=True):
        name, label = entry.name_and_label(program)
        if label is not None and node in {None, label.node}:
            with closing(tcx.link_by_id(number)) as link:
                tcx.detach(link)
            removed.append(f"TCX program {name} of {label.node}@{label.run}")
    return removed


def _detach(pin: Path) -> None:
    """At once, and the pin goes, too. What is not there is no error."""
    with contextlib.suppress(FileNotFoundError):
        with closing(bpfsys.obj_get(pin)) as link:
            tcx.detach(link)
        pin.unlink()


def _pinned(path: Path) -> Link | None:
    """The link of a pin; None: there is none."""
    try:
        with closing(bpfsys.obj_get(path)) as link:
            return tcx.describe(link)
    except FileNotFoundError:
        return None


def _name(program: int) -> str | None:
    """Of the program of this id; None: it has gone, or we may not look (that needs CAP_SYS_ADMIN)."""
    try:
        with closing(tcx.prog_by_id(program)) as fd:
            return tcx.prog_name_and_maps(fd)[0]
    except (FileNotFoundError, PermissionError):
        return None
