"""Attaches and detaches by what this kernel has: TCX, else filters. Runs in the short-lived child only.

Filters, and with them pyroute2, are loaded where there may be some: that takes longer than all else a child does.
"""

import contextlib
import errno
import itertools
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from producer.interfaces import namespaces
from producer.interfaces.attach import entry, links
from producer.interfaces.attach.entry import Entries, Label, open_entries
from producer.interfaces.attach.hook import ATTACHED, FAILED, GONE, KEPT, Hook, Outcome
from producer.interfaces.attach.links import Links
from producer.interfaces.names import shown, shown_in
from producer.interfaces.rtnetlink import RouteSocket
from producer.kernel import tcx
from producer.kernel.bpfsys import closing

if TYPE_CHECKING:
    from producer.interfaces.attach.filters import Filters

_GONE = {errno.ENODEV, errno.ENXIO}  # the interface, while we look at it
_ADVICE = {
    errno.EPERM: "run as root, or give CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON",
    errno.ERANGE: f"{tcx.MOST_TCX} TCX programs are there, which is the most; remove some (bpftool net show)",
    errno.ENOSPC: "there is no room for another program or filter; remove some (tc filter show, bpftool net show)",
    errno.ENOENT: "this kernel lacks clsact or BPF filters; it needs CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF "
    "(often in a package linux-modules-extra)",
    errno.EEXIST: "somebody has just attached a qdisc or filter in the same place; if it stays, remove it",
    errno.ENOMEM: "the kernel has no memory for it; free some",
}
_ADVICE |= {
    errno.EACCES: _ADVICE[errno.EPERM],
    errno.E2BIG: _ADVICE[errno.ENOSPC],
    errno.EOPNOTSUPP: _ADVICE[errno.ENOENT],
}
_HALF_SEEN = (
    "what leaves by {name} is not seen: there is an `ingress` qdisc of somebody else, and this kernel has no TCX. "
    "Use Linux 6.6 or newer, or have that qdisc replaced: tc qdisc replace dev {name} clsact"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attach:
    """Attaches the entry programs of a run."""

    node: str
    run: str
    directory: Path  # the node's, in which the run is pinned
    by_tcx: bool  # may be tried

    def attach(self, hooks: Iterable[Hook]) -> list[Outcome]:
        """Attach where it is not attached. Each has an outcome, whatever becomes of others. Raises OSError."""
        ordered = sorted(hooks, key=_namespace)
        found: list[Outcome] = []
        ours = Links(self.directory, self.run) if self.by_tcx and tcx.is_known() else None
        with open_entries(self.directory, Label(node=self.node, run=self.run)) as entries:
            for _, group in itertools.groupby(ordered, _namespace):
                there = list(group)
                try:
                    with namespaces.entered(there[0].namespace):
                        found += self._attach_here(there, entries, ours)
                except FileNotFoundError:
                    found += [Outcome(slot=hook.slot, state=GONE) for hook in there]
                except OSError as error:
                    found += [refused(hook, error, "enter the network namespace of") for hook in there]
        return found

    def _attach_here(self, hooks: list[Hook], entries: Entries, ours: Links | None) -> Iterator[Outcome]:
        """In this thread's network namespace. `ours`: None where there is no TCX."""
        others: Filters | None = None
        may_have_filters = ours is None or _may_have_filters()
        names = namespaces.interfaces()
        with contextlib.ExitStack() as opened:
            for hook in hooks:
                try:
                    if ours is not None and ours.look(hook).in_place:
                        yield Outcome(slot=hook.slot, state=KEPT)
                        continue
                    if names.get(hook.ifindex) != hook.name.rpartition("/")[2]:
                        yield Outcome(slot=hook.slot, state=GONE)
                        continue
                    if others is None and may_have_filters:
                        others = opened.enter_context(self._filters())
                    yield (_by_filters(hook, entries, others) if ours is None else _by_tcx(hook, entries, ours, others))
                except OSError as error:
                    yield refused(hook, error, "attach to")

    def _filters(self) -> "contextlib.AbstractContextManager[Filters]":
        from producer.interfaces.attach import filters

        return filters.open_filters(node=self.node, run=self.run)


def _by_tcx(hook: Hook, entries: Entries, ours: Links, others: "Filters | None") -> Outcome:
    """Filters of an earlier run that had no TCX go, and each packet is counted once meanwhile: see Entries.load.

    `others`: None where there is no qdisc for any.
    """
    if others is not None and (found := others.of_node(hook.ifindex)):
        with closing(entry.passed()) as passed:
            others.take_over(hook, found, lambda direction: entries.load(hook.slot, direction, minds=passed))
            ours.put(hook, entries, marks=passed)
            others.remove(hook.ifindex)
    ours.put(hook, entries)
    return Outcome(slot=hook.slot, state=ATTACHED)


def _by_filters(hook: Hook, entries: Entries, others: "Filters | None") -> Outcome:
    assert others is not None, "without TCX they are always opened"
    found = others.of_node(hook.ifindex)
    kept = others.are_current(hook, found)
    if not kept:
        others.put(hook, found, lambda direction: entries.load(hook.slot, direction))
    lacking = "" if others.sees_all(hook.ifindex) else _HALF_SEEN.format(name=hook.name)
    return Outcome(slot=hook.slot, state=KEPT if kept else ATTACHED, error=lacking)


def refused(hook: Hook, error: OSError, what: str) -> Outcome:
    """What the kernel's answer means for one interface. `what`: we tried to do with it."""
    if error.errno in _GONE:
        return Outcome(slot=hook.slot, state=GONE)
    said = f"cannot {what} {hook.name}: {os.strerror(error.errno or 0)}"
    advice = _ADVICE.get(error.errno or 0)
    return Outcome(slot=hook.slot, state=FAILED, error=f"{said}; {advice}" if advice else said)


def _namespace(hook: Hook) -> str:
    return hook.namespace or ""


def detach_everywhere(*, node: str | None = None, keep: Collection[str] = ()) -> list[str]:
    """Detach in our network namespace and in those with a name. Returns a line for each thing that was removed.

    `keep`: interfaces, of other namespaces NAMESPACE/NAME, that are left alone. Raises OSError.
    """
    removed = _detach(node, keep)
    for name in namespaces.named():
        octets = os.fsencode(name)
        with contextlib.suppress(OSError), namespaces.entered(str(namespaces.RUN_NETNS / name)):
            own = {each for each in namespaces.interfaces().values() if shown_in(octets, each) in keep}
            removed += [f"{line} in namespace {shown(octets)}" for line in _detach(node, own)]
    return removed


def _detach(node: str | None, keep: Collection[str]) -> list[str]:
    removed = links.detach(node=node, keep=keep)
    if not _may_have_filters():
        return removed
    from producer.interfaces.attach import filters

    return removed + filters.detach(node=node, keep=keep)


def _may_have_filters() -> bool:
    """In this thread's network namespace."""
    with contextlib.closing(RouteSocket.open()) as route:
        return route.may_have_filters()
