"""What the kernel refuses, and what others do to a hook: an outcome for each interface, with what to do."""

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from producer.interfaces.attach.filters import Filters
from producer.interfaces.attach.hook import ATTACHED, FAILED, GONE, KEPT, WAYS, Hook, Outcome
from producer.interfaces.attach.links import Links
from producer.kernel import bpfsys, child, pins, tcx
from producer.kernel.bpfsys import closing
from producer.kernel.pins import PROGRAMS
from tests.kernel import veth
from tests.kernel.attached import hooks, programs
from tests.kernel.harness import Program

pytestmark = pytest.mark.root

PASSES = struct.pack("=BBhiBBhi", 0xB7, 0, 0, -1, 0x95, 0, 0, 0)
"""A program that ends with TCX_NEXT."""


class Attaches:
    """The child of a run."""

    def __init__(self, directory: Path, log: Path) -> None:
        self._program, self.directory, self._log = Program(directory, log), directory, log
        self.links = Links(directory, "1")

    def __call__(self, *asked: Hook, ways: tuple[str, ...] = WAYS, run: int = 1) -> dict[str, Outcome]:
        request = {
            "node": pins.node_of(self.directory),
            "run": run,
            "pin_directory": str(self.directory),
            "ways": ways,
            "hooks": [asdict(hook) for hook in asked],
        }
        answer = child.run("hook", request, log=self._log)
        outcomes = {fields["slot"]: Outcome(**fields) for fields in answer.values["outcomes"]}
        return {hook.name: outcomes[hook.slot] for hook in asked}

    def close(self) -> None:
        child.run("detach", {"node": pins.node_of(self.directory)}, log=self._log)
        self._program.close()
        pins.remove(self.directory)


@pytest.fixture
def attach(bpffs: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Attaches]:
    made = Attaches(pins.node_directory(bpffs, f"att.{abs(hash(request.node.name)) % 10**9}"), tmp_path / "k.log")
    yield made
    made.close()


@pytest.fixture
def _has_tcx(root_and_bcc: None) -> None:
    if not tcx.is_known():
        pytest.skip("this kernel has no TCX")


def of(name: str, slot: int = 0, namespace: str | None = None) -> Hook:
    with contextlib.suppress(OSError):
        return Hook(slot=slot, ifindex=socket.if_nametoindex(name), name=name, namespace=namespace)
    return Hook(slot=slot, ifindex=999_999, name=name, namespace=namespace)


def test_each_interface_has_an_outcome_of_its_own(way: str, attach: Attaches, tmp_path: Path) -> None:
    no_namespace = tmp_path / "not-a-namespace"
    no_namespace.touch()
    with veth.pair() as (a, b):
        renamed = Hook(slot=5, ifindex=socket.if_nametoindex(b), name="another-name", namespace=None)
        asked = (
            of("went", 1),
            of("x/strange", 2, str(no_namespace)),
            of(a, 3),
            of("x/away", 4, "/run/netns/went"),
            renamed,
        )
        found = attach(*asked, ways=(way,))
        assert {name: outcome.state for name, outcome in found.items()} == {
            "went": GONE,
            "x/strange": FAILED,
            a: ATTACHED,
            "x/away": GONE,
            "another-name": GONE,
        }
        assert found["x/strange"].error == "cannot enter the network namespace of x/strange: Invalid argument"
        assert attach(of(a, 3), ways=(way,))[a].state == KEPT
        assert hooks(a) == {f"{way} ingress", f"{way} egress"}
        assert not hooks(b)


@pytest.mark.usefixtures("_has_tcx")
def test_a_full_chain_of_programs_is_told_and_others_are_attached(attach: Attaches) -> None:
    with veth.pair() as (a, b), contextlib.ExitStack() as undo:
        program = undo.enter_context(closing(bpfsys.prog_load("full", PASSES)))
        ifindex = socket.if_nametoindex(a)
        for _ in range(tcx.MOST_TCX - 1):
            each = undo.enter_context(closing(bpfsys.prog_load("full", PASSES)))
            undo.callback(os.close, tcx.attach(each, ifindex, tcx.TCX[1]))
        with closing(tcx.attach(program, ifindex, tcx.TCX[1])):
            found = attach(of(a, 1), of(b, 2))
            assert (found[a].state, found[b].state) == (FAILED, ATTACHED)
            assert "63 TCX programs are there, which is the most; remove some" in found[a].error
        assert attach(of(a, 1))[a] == Outcome(slot=1, state=ATTACHED)


@pytest.mark.usefixtures("_has_tcx")
def test_a_program_that_gets_before_ours_is_named(attach: Attaches) -> None:
    with veth.pair() as (a, _):
        attach(of(a))
        assert attach.links.look(of(a)).before == ()
        with (
            closing(bpfsys.prog_load("cil_from_netdev", PASSES)) as program,
            closing(tcx.attach(program, socket.if_nametoindex(a), tcx.TCX[0])),
        ):
            assert programs(a, 0) == ["cil_from_netdev", "ayaflow_i0"]
            seen = attach.links.look(of(a))
            assert (seen.in_place, seen.before) == (True, ("cil_from_netdev (ingress)",))
        assert attach.links.look(of(a)).before == ()


@pytest.mark.usefixtures("_has_tcx")
def test_another_program_in_our_link_is_noticed_and_ours_comes_back(attach: Attaches) -> None:
    with veth.pair() as (a, _):
        attach(of(a))
        pin = pins.hooks_directory(attach.directory, "1") / f"0-{PROGRAMS[0]}"
        with closing(bpfsys.prog_load("other", PASSES)) as other, closing(bpfsys.obj_get(pin)) as link:
            tcx.update(link, other)
        assert not attach.links.look(of(a)).in_place
        assert attach(of(a))[a].state == ATTACHED
        assert attach.links.look(of(a)).in_place
        assert programs(a, 0) == ["ayaflow_i0"]


@pytest.mark.usefixtures("_has_tcx")
def test_a_slot_has_one_link_also_when_its_interface_has_moved_away(attach: Attaches) -> None:
    with veth.pair() as (a, b):
        attach(of(a, 7))
        assert attach(of(b, 7))[b].state == ATTACHED  # as if `a` had gone unnoticed
        assert not hooks(a)
        assert programs(b, 0) == ["ayaflow_i7"]


@pytest.mark.usefixtures("_has_tcx")
def test_another_run_takes_the_links_over_whatever_slot_it_gives(attach: Attaches) -> None:
    with veth.pair() as (a, b):
        attach(of(a, 0), of(b, 1))
        there = tcx.query(socket.if_nametoindex(a), tcx.TCX[0]).links
        found = attach(of(a, 1), of(b, 0), run=2)
        assert {outcome.state for outcome in found.values()} == {ATTACHED}
        assert tcx.query(socket.if_nametoindex(a), tcx.TCX[0]).links == there
        assert (programs(a, 0), programs(b, 1)) == (["ayaflow_i1"], ["ayaflow_e0"])
        assert not list(pins.hooks_directory(attach.directory, "1").iterdir())
        pins.remove_slot(attach.directory, "1", 1)
        assert hooks(a) == hooks(b) == {"tcx ingress", "tcx egress"}


def test_qdiscs_are_listed_once_for_all_interfaces() -> None:
    """Once for each of 500 took half a minute of CPU."""
    lists = 0

    class Counting:
        """What is asked of the kernel."""

        def __getattr__(self, name: str) -> Any:
            nonlocal lists
            lists += name == "get_qdiscs"
            return getattr(route, name)

    with contextlib.ExitStack() as stack:
        cables = [stack.enter_context(veth.pair()) for _ in range(4)]
        names = [name for cable in cables for name in cable]
        veth.tc("qdisc", "add", "dev", names[0], "clsact")
        route = stack.enter_context(IPRoute())
        filters = Filters(Counting(), node="n", run="1")
        found = {name: filters.of_node(socket.if_nametoindex(name)) for name in names}
    assert (lists, found) == (1, {name: {} for name in names})
