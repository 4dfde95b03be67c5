"""What is heard of the interfaces of several namespaces, which come and go."""

import math
import os
from collections.abc import Iterator

import pytest

from producer.interfaces.observer import NAMESPACES_NS, Observer
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


def test_one_that_cannot_be_entered_is_not_tried_again_until_it_is_another(
    machine: MemoryMachine, observer: Observer
) -> None:
    machine.names, machine.refuses = {"blue": (4, 77)}, {"blue"}
    assert observer.poll(0).changed
    machine.refuses = set()
    assert not observer.poll(NAMESPACES_NS).changed
    machine.names = {"blue": (4, 78)}
    assert observer.poll(2 * NAMESPACES_NS).changed
    assert "blue" in machine.opened


def test_numbers_that_namespaces_have_for_each_other_are_turned_into_ours(
    machine: MemoryMachine, observer: Observer
) -> None:
    assert observer.world().namespaces == {}
    machine.names["blue"] = (4, 77)
    observer.poll(0)
    blue, fd = machine.opened["blue"]
    ours(machine).numbers[fd] = 12
    blue.numbers[machine.opened[""][1]] = 0
    assert observer.world().namespaces == {(0, 12): 1, (1, 0): 0}
