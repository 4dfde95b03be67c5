"""Filters on the clsact hooks, by pyroute2. Runs in the short-lived child only.

What is ours is told by its name, which the kernel keeps with the filter: `ayaflow:NODE:DIRECTION`, with `+qdisc`
behind it when the clsact qdisc is ours too. So it can be found and removed by anyone, after any kind of death.
"""

import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from common.errors import EnvironmentProblem

PRIORITY = 17  # before filters that were given none (they begin at 49152), and unlikely to be another's
NAME = "ayaflow:"
OWN_QDISC = "+qdisc"
HOOKS = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}

_NO_ETHERNET = {65534, 512, 519, 768, 769, 776}  # ARPHRD_NONE (tun, wireguard), PPP, RAWIP, TUNNEL, TUNNEL6, SIT


@contextlib.contextmanager
def open_route() -> Iterator[Any]:
    """An rtnetlink socket in our network namespace."""
    with IPRoute() as route:
        yield route


def describe(route: Any, names: list[str]) -> list[dict[str, Any]]:
    """name, ifindex, slot, no_ethernet of each interface. Raises EnvironmentProblem when one has just gone."""
    links = {link.get_attr("IFLA_IFNAME"): link for link in route.get_links()}
    found = []
    for slot, name in enumerate(names):
        if name not in links:
            raise EnvironmentProblem(f"interface {name} has gone; start again")
        found.append({
            "name": name, "ifindex": links[name]["index"], "slot": slot,
            "no_ethernet": links[name]["ifi_type"] in _NO_ETHERNET,
        })  # fmt: skip
    return found


def attach(route: Any, ifindex: int, node: str, programs: dict[str, int], *, slot: int) -> None:
    """Put our filters on an interface. `programs`: file descriptors by hook. Raises EnvironmentProblem."""
    try:
        ours = _ensure_clsact(route, ifindex)
        for hook, fd in programs.items():
            name = f"{NAME}{node}:{hook}" + (OWN_QDISC if ours else "")
            route.tc(
                "add-filter", "bpf", ifindex, 0, fd=fd, name=name, parent=HOOKS[hook], prio=PRIORITY,
                direct_action=True, classid=slot,
            )  # fmt: skip
    except NetlinkError as error:
        raise EnvironmentProblem(_sentence(error, ifindex)) from error


def detach(route: Any, *, node: str | None = None, ifindex: int | None = None) -> list[str]:
    """Remove the filters of a node (None: of all), and the qdisc when it was ours and is empty now.

    Returns a line for each thing that was removed.
    """
    removed = []
    links = {link["index"]: link.get_attr("IFLA_IFNAME") for link in route.get_links()}
    for index in sorted(_with_clsact(route)):
        if ifindex is not None and index != ifindex:
            continue
        name, qdisc_is_ours = links.get(index, str(index)), False
        for hook, message, label in _ours(route, index):
            if node is not None and label.removesuffix(OWN_QDISC) != f"{NAME}{node}:{hook}":
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
