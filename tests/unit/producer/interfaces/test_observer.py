"""What is heard of the interfaces of several namespaces, which come and go."""

import errno
import math
import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from producer.interfaces.observer import AGAIN_NS, NAMESPACES_NS, REFUSED_NS, Observer
from producer.interfaces.rtnetlink import Changes, Link
from producer.interfaces.testing import MemoryListening, MemoryMachine

ETH0 = Link(ifindex=2, name="eth0", type=1, loopback=False)


@pytest.fixture
def machine() -> MemoryMachine:
    return MemoryMachine()


@pytest.fixture
def observer(machine: MemoryMachine) -> Iterator[Observer]:
    made = Observer(all_namespaces=True, machine=machine)
    yield made
    made.close()


def ours(machine: MemoryMachine) -> MemoryListening:
    return machine.opened[""][0]


@pytest.mark.parametrize("heard", [Changes(links=True), Changes(routes=True), Changes(lost=True)])
def test_whatever_is_heard_of_interfaces_is_a_change_once(
    machine: MemoryMachine, observer: Observer, heard: Changes
) -> None:
    assert not observer.poll(0).changed
    ours(machine).heard = heard
    assert observer.poll(1).changed
    assert not observer.poll(2).changed


def test_a_removed_hook_is_told_with_its_place(machine: MemoryMachine, observer: Observer) -> None:
    ours(machine).heard = Changes(unhooked=frozenset({5}))
    news = observer.poll(0)
    assert (news.changed, news.unhooked) == (False, frozenset({(0, 5)}))


def test_when_messages_were_lost_any_hook_may_be_gone(machine: MemoryMachine, observer: Observer) -> None:
    ours(machine).found, ours(machine).heard = [ETH0], Changes(lost=True)
    observer.world()
    assert observer.poll(0).unhooked == {(0, 2)}


def test_a_namespace_that_comes_is_listened_to_and_one_that_goes_is_not(
    machine: MemoryMachine, observer: Observer
) -> None:
    machine.names["blue"] = (4, 77)
    assert observer.poll(0).changed
    blue, fd = machine.opened["blue"]
    blue.found, ours(machine).found = [ETH0], [ETH0]
    assert observer.descriptors() == (ours(machine).fileno(), blue.fileno())
    assert [observer.name(place, link) for place, link in observer.world().links.items()] == ["eth0", "blue/eth0"]
    assert observer.path(0) is None
    assert observer.path(1) == f"/proc/{os.getpid()}/fd/{fd}"
    del machine.names["blue"]
    assert observer.poll(NAMESPACES_NS).changed
    assert blue.closed
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(fd)
    assert observer.world().links == {(0, 2): ETH0}


def test_one_that_is_made_anew_under_its_name_is_another(machine: MemoryMachine, observer: Observer) -> None:
    machine.names["blue"] = (4, 77)
    observer.poll(0)
    first = machine.opened["blue"][0]
    machine.names["blue"] = (4, 78)
    assert observer.poll(NAMESPACES_NS).changed
    machine.opened["blue"][0].found = [ETH0]
    assert first.closed
    assert list(observer.world().links) == [(2, 2)]


def test_names_are_looked_at_twice_a_second(machine: MemoryMachine, observer: Observer) -> None:
    observer.poll(0)
    machine.names["blue"] = (4, 77)
    assert not observer.poll(NAMESPACES_NS - 1).changed
    assert observer.poll(NAMESPACES_NS).changed
    assert observer.looks_every == NAMESPACES_NS / 1e9


def test_other_namespaces_are_left_alone_unless_they_are_wanted(machine: MemoryMachine) -> None:
    observer = Observer(all_namespaces=False, machine=machine)
    machine.names["blue"] = (4, 77)
    assert not observer.poll(0).changed
    assert observer.looks_every == math.inf
    observer.close()
    assert machine.opened.keys() == {""}
    assert ours(machine).closed


def test_one_that_cannot_be_entered_is_named_tried_again_and_holds_no_other(
    machine: MemoryMachine, observer: Observer
) -> None:
    machine.names, machine.refuses = {"bad\udcff": (4, 77), "green": (4, 79)}, {"bad\udcff"}
    assert observer.poll(0).changed
    assert "green" in machine.opened
    assert observer.problems == {
        "bad\\xff/*": "cannot look into the network namespace bad\\xff: Operation not permitted; "
        "run as root, or set capture.namespaces to false"
    }
    machine.refuses = set()
    assert not observer.poll(NAMESPACES_NS).changed
    assert observer.problems
    assert observer.poll(REFUSED_NS).changed
    assert not observer.problems
    assert "bad\udcff" in machine.opened


def test_one_that_goes_while_it_is_refused_is_forgotten(machine: MemoryMachine, observer: Observer) -> None:
    machine.names, machine.refuses = {"blue": (4, 77)}, {"blue"}
    observer.poll(0)
    machine.names = {}
    assert observer.poll(NAMESPACES_NS).changed
    assert not observer.problems


def test_an_error_is_not_no_interfaces(machine: MemoryMachine, observer: Observer) -> None:
    ours(machine).found = [ETH0]
    assert observer.world().links == {(0, 2): ETH0}
    ours(machine).error = OSError(errno.ENOBUFS, "No buffer space available")
    assert observer.poll(0).changed
    assert observer.world().links == {(0, 2): ETH0}
    assert observer.problems == {
        "this machine": "cannot list the interfaces of this machine: No buffer space available; trying again"
    }
    ours(machine).error, ours(machine).found = None, []
    assert not observer.poll(AGAIN_NS - 1).changed
    assert observer.poll(AGAIN_NS).changed
    assert observer.world().links == {}
    assert not observer.problems
    assert not observer.poll(2 * AGAIN_NS).changed


def test_a_list_that_is_not_whole_adds_and_takes_nothing_away(machine: MemoryMachine, observer: Observer) -> None:
    eth1 = replace(ETH0, ifindex=3, name="eth1")
    ours(machine).found = [ETH0]
    observer.world()
    ours(machine).found, ours(machine).whole = [eth1], False
    assert observer.world().links == {(0, 2): ETH0, (0, 3): eth1}
    assert "change too fast" in observer.problems["this machine"]
    ours(machine).whole = True
    assert observer.poll(AGAIN_NS).changed
    assert observer.world().links == {(0, 3): eth1}


def test_an_error_is_not_no_namespaces(machine: MemoryMachine, observer: Observer) -> None:
    machine.names["blue"] = (4, 77)
    observer.poll(0)
    machine.error = OSError(errno.EMFILE, "Too many open files")
    assert observer.poll(NAMESPACES_NS).changed
    assert not machine.opened["blue"][0].closed
    assert observer.problems == {"*/*": "cannot list /run/netns: Too many open files; trying again"}
    assert not observer.poll(2 * NAMESPACES_NS).changed
    machine.error = None
    assert observer.poll(3 * NAMESPACES_NS).changed
    assert not observer.problems


def test_numbers_that_namespaces_have_for_each_other_are_turned_into_ours(
    machine: MemoryMachine, observer: Observer
) -> None:
    assert observer.world().namespaces == {}
    machine.names["blue"] = (4, 77)
    observer.poll(0)
    blue, fd = machine.opened["blue"]
    ours(machine).found = blue.found = [replace(ETH0, link_nsid=12), replace(ETH0, ifindex=3, link_nsid=0)]
    ours(machine).numbers[fd] = 12
    blue.numbers[machine.opened[""][1]] = 0
    assert observer.world().namespaces == {(0, 12): 1, (1, 0): 0}
    asked = ours(machine).asked
    ours(machine).found = [replace(ETH0, link_nsid=12)]
    observer.world()
    assert ours(machine).asked == asked, "what is known is not asked for again"
    del machine.names["blue"]
    observer.poll(NAMESPACES_NS)
    assert observer.world().namespaces == {}
