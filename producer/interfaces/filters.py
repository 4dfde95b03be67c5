"""TC filters on the clsact hooks, by pyroute2. Runs in the short-lived child only.

What is ours is told by its name, which the kernel keeps with the filter: `ayaflow:NODE:DIRECTION@RUN`, with `+qdisc`
behind it when the clsact qdisc is ours too. So it can be found and removed by anyone, after any kind of death. RUN is
the ring's id: a filter of another run is replaced in one step, so that each packet passes one of the two.
"""

import contextlib
import errno
import socket
from collections.abc import Collection, Iterator
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from common.errors import AyaflowError, EnvironmentProblem
from producer.interfaces import namespaces
from producer.interfaces.attacher import ATTACHED, FAILED, GONE, KEPT, Hook

PRIORITY = 17  # before filters that were given none (they begin at 49152), and unlikely to be another's
NAME = "ayaflow:"
OWN_QDISC = "+qdisc"
HOOKS = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}


@contextlib.contextmanager
def open_route(namespace: str | None = None) -> Iterator[Any]:
    """An rtnetlink socket in a network namespace, given by a file; None: in ours. Raises OSError."""
    with namespaces.entered(namespace), IPRoute() as route:
        yield route


def detach_everywhere(*, node: str | None = None, keep: Collection[str] = ()) -> list[str]:
    """`detach` in our network namespace and in those with a name. Returns a line for each thing that was removed.

    `keep`: interfaces, of other namespaces NAMESPACE/NAME, that are left alone.
    """
    with open_route() as route:
        removed = detach(route, node=node, keep=keep)
    for name in namespaces.named():
        own = {interface.removeprefix(f"{name}/") for interface in keep if interface.startswith(f"{name}/")}
        with contextlib.suppress(OSError), open_route(str(namespaces.RUN_NETNS / name)) as route:
            removed += [f"{line} in namespace {name}" for line in detach(route, node=node, keep=own)]
    return removed


def attach(hook: Hook, *, node: str, run: str, programs: dict[str, int]) -> dict[str, Any]:
    """Attach unless it is attached already -> the fields of an attacher.Outcome."""
    state, error = FAILED, ""
    try:
        with open_route(hook.namespace) as route:
            state = ensure(route, hook, node=node, run=run, programs=programs)
    except FileNotFoundError:  # the namespace
        state = GONE
    except (AyaflowError, OSError) as problem:
        error = str(problem)
    return {"slot": hook.slot, "state": state, "error": error}


def ensure(route: Any, hook: Hook, *, node: str, run: str, programs: dict[str, int]) -> str:
    """Attach unless it is attached already. Returns what became of it: ATTACHED, KEPT or GONE.

    Raises EnvironmentProblem.
    """
    try:
        if not route.link_lookup(index=hook.ifindex, ifname=hook.name.rpartition("/")[2]):
            return GONE
        found = _of_node(route, hook.ifindex, node)
        if all(_is_current(found.get(place), hook, run) for place in HOOKS):
            return KEPT
        _attach(route, hook, node, run, programs, found)
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            return GONE
        raise EnvironmentProblem(_sentence(error, hook.ifindex)) from error
    return ATTACHED


def _of_node(route: Any, ifindex: int, node: str) -> dict[str, tuple[Any, str]]:
    """Message and name of the node's filters by hook."""
    return {place: (message, label) for place, message, label in _ours(route, ifindex) if _is_of(label, node, place)}


def _is_of(label: str, node: str, place: str) -> bool:
    return label.partition("@")[0].removesuffix(OWN_QDISC) == f"{NAME}{node}:{place}"


def _is_current(found: tuple[Any, str] | None, hook: Hook, run: str) -> bool:
    """Whether a filter is of this run and has the right slot."""
    if found is None:
        return False
    message, label = found
    slot = message.get_attr("TCA_OPTIONS").get_attr("TCA_BPF_CLASSID") or 0
    return slot == hook.slot and label.removesuffix(OWN_QDISC).endswith(f"@{run}")


def _attach(  # noqa: PLR0917  what a filter is made of
    route: Any, hook: Hook, node: str, run: str, programs: dict[str, int], found: dict[str, tuple[Any, str]]
) -> None:
    """Put our filters on an interface, in the place of those that are `found`. Raises NetlinkError."""
    ours = _ensure_clsact(route, hook.ifindex)
    for place, fd in programs.items():
        name = f"{NAME}{node}:{place}@{run}" + (OWN_QDISC if ours else "")
        filter_ = {"fd": fd, "name": name, "parent": HOOKS[place], "prio": PRIORITY, "direct_action": True}
        # the class id is what the program sees as skb->tc_classid
        if place in found:
            handle = found[place][0]["handle"]
            route.tc("replace-filter", "bpf", hook.ifindex, handle, classid=hook.slot, **filter_)
        else:
            route.tc("add-filter", "bpf", hook.ifindex, 0, classid=hook.slot, **filter_)


def detach(route: Any, *, node: str | None = None, keep: Collection[str] = ()) -> list[str]:
    """Remove the filters of a node (None: of all), and the qdisc when it was ours and is empty now.

    `keep`: interfaces that are left alone. Returns a line for each thing that was removed.
    """
    removed = []
    links = {link["index"]: link.get_attr("IFLA_IFNAME") for link in route.get_links()}
    for index in sorted(_with_clsact(route)):
        name, qdisc_is_ours = links.get(index, str(index)), False
        if name in keep:
            continue
        for hook, message, label in _ours(route, index):
            if node is not None and not _is_of(label, node, hook):
                continue
            with _gone_is_fine():
                route.tc("del-filter", "bpf", index, message["handle"], parent=message["parent"], info=message["info"])
                removed.append(f"filter {label} on {name} {hook}")
            qdisc_is_ours |= label.endswith(OWN_QDISC)
        if qdisc_is_ours and not any(_filters(route, index, hook) for hook in HOOKS):
            with _gone_is_fine():
                route.tc("del", "clsact", index)
                removed.append(f"clsact qdisc on {name}")
    return removed


def _ensure_clsact(route: Any, ifindex: int) -> bool:
    """Add the clsact qdisc if it is missing. Returns whether it is ayaflow's: this or another node's."""
    if ifindex in _with_clsact(route):
        return any(label.endswith(OWN_QDISC) for _, _, label in _ours(route, ifindex))
    route.tc("add", "clsact", ifindex)
    return True


def _with_clsact(route: Any) -> set[int]:
    return {qdisc["index"] for qdisc in route.get_qdiscs() if qdisc.get_attr("TCA_KIND") == "clsact"}


def _filters(route: Any, ifindex: int, hook: str) -> list[Any]:
    found: list[Any] = []
    with _gone_is_fine():
        found += route.get_filters(ifindex, 0, HOOKS[hook])
    return found


def _ours(route: Any, ifindex: int) -> list[tuple[str, Any, str]]:
    """(hook, message, name) of ayaflow's filters."""
    found = []
    for hook in HOOKS:
        for message in _filters(route, ifindex, hook):
            options = message.get_attr("TCA_OPTIONS") if message.get_attr("TCA_KIND") == "bpf" else None
            label = options.get_attr("TCA_BPF_NAME") if options else None
            if label and label.startswith(NAME):
                found.append((hook, message, label))
    return found


@contextlib.contextmanager
def _gone_is_fine() -> Iterator[None]:
    """Interfaces, qdiscs and filters may go while we look at them."""
    try:
        yield
    except NetlinkError as error:
        if error.code not in {errno.ENOENT, errno.ENODEV, errno.EINVAL}:
            raise


def _sentence(error: NetlinkError, ifindex: int) -> str:
    with contextlib.suppress(OSError):
        name = socket.if_indextoname(ifindex)
        if error.code in {errno.ENOENT, errno.EOPNOTSUPP}:
            return (
                f"this kernel cannot attach to {name}: it lacks clsact or BPF filters; "
                "it needs CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF (often in a package linux-modules-extra)"
            )
        if error.code == errno.EPERM:
            return f"not permitted to attach to {name}: run as root, or give CAP_NET_ADMIN and CAP_BPF"
        return f"cannot attach to {name}: {error}"
    return f"interface {ifindex} has gone; start again"
