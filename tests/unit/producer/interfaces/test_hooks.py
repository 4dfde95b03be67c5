"""Hooks follow interfaces: which are attached to, what becomes of their slots, and what is tried again."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from common.errors import EnvironmentProblem
from producer.capture.devices import DeviceCount
from producer.capture.epochs import Epochs
from producer.capture.testing import MemoryMaps, counters, memory_state
from producer.clock import WallClock
from producer.interfaces.attach.hook import FAILED, GONE
from producer.interfaces.hooks import LOOK_NS, SWEEP_NS, SWEPT, Hooks
from producer.interfaces.rtnetlink import LinkStats
from producer.interfaces.selection import Selection
from producer.interfaces.testing import MemoryAttacher, MemoryObserver, MemoryTables
from producer.interfaces.troubles import LONGEST_RETRY_NS, PARTLY, REFUSED, RETRY_NS, TOO_MANY, UNSEEN, Trouble
from producer.kernel.abi import (
    EGRESS,
    ELSEWHERE,
    INGRESS,
    MAX_INTERFACES,
    NO_ETHERNET,
    UNKNOWN_LINK,
    WATCHED,
    counter_key,
)
from producer.metrics import ProducerMetrics

BOTH = ELSEWHERE << INGRESS | ELSEWHERE << EGRESS


class Following:
    """Hooks of a machine that the test changes."""

    def __init__(self, *patterns: str, adopted: dict[int, str] | None = None, routes: tuple[str, ...] = ()) -> None:
        self.now = RETRY_NS
        self.observer, self.attacher, self.tables = MemoryObserver(), MemoryAttacher(), MemoryTables()
        self.maps, state = MemoryMaps(4 * MAX_INTERFACES), memory_state()
        state.begin(ring_id=9, opened_ns=0)
        self.epochs = Epochs(
            maps=self.maps,
            state=state,
            clock=WallClock(lambda: self.now, lambda: self.now),
            producer_position=lambda: 0,
        )
        self.names: dict[int, str] = {}
        self._watched: tuple[str, ...] = ()
        self.troubles: tuple[Trouble, ...] = ()
        self.hooks = Hooks(
            adopted=adopted or {},
            selection=Selection.of(list(patterns)),
            observer=self.observer,
            attacher=self.attacher,
            tables=self.tables,
            epochs=self.epochs,
            monotonic=lambda: self.now,
            on_change=self._change,
            automatic=lambda: list(routes),
        )

    def _change(self, names: dict[int, str], watched: tuple[str, ...], troubles: tuple[Trouble, ...]) -> None:
        self.names, self._watched, self.troubles = names, watched, troubles

    def reasons(self) -> dict[str, str]:
        return {trouble.interface: trouble.reason for trouble in self.troubles}

    def after(self, nanoseconds: int = 2 * LOOK_NS) -> None:
        """Let time pass; attaching takes no longer than one look."""
        self.now += nanoseconds
        self.hooks.step()
        self.now += 2 * LOOK_NS
        self.hooks.step()

    def watched(self) -> tuple[str, ...]:
        return self._watched

    def flags(self) -> dict[str, int]:
        return {name: flags for flags, _, name in self.tables.interfaces.values() if flags}


def test_at_the_start_all_that_is_wanted_is_attached_to() -> None:
    node = Following("eth*", "wg0", "auto", routes=("ppp0",))
    places = [node.observer.add(name, number) for number, name in enumerate(("eth0", "lan0", "ppp0"), 2)]
    places.append(node.observer.add("wg0", 9, type=65534))
    node.hooks.begin()
    assert node.watched() == node.hooks.names == ("eth0", "ppp0", "wg0")
    assert node.flags() == {"eth0": WATCHED, "ppp0": WATCHED, "wg0": WATCHED | NO_ETHERNET}
    assert node.tables.watched == {places[0], places[2], places[3]}
    assert [(hook.slot, hook.ifindex, hook.namespace) for hook in node.attacher.asked[0]] == [
        (0, 2, None),
        (1, 4, None),
        (2, 9, None),
    ]
    assert not node.attacher.kept


def test_a_device_with_a_header_that_nobody_knows_is_named(caplog: pytest.LogCaptureFixture) -> None:
    node = Following("*")
    node.observer.add("ib0", 2, type=32)
    tun = node.observer.add("tun0", 3, type=65534)
    node.hooks.begin()
    assert node.flags() == {"ib0": WATCHED | UNKNOWN_LINK, "tun0": WATCHED | NO_ETHERNET}
    assert list(node.hooks.unknown_links) == ["ib0 (link type 32)"]
    node.observer.add("tun0", tun[1], type=804)  # while it is watched
    node.after()
    node.observer.changed = True
    node.after()
    assert node.flags()["tun0"] == WATCHED | UNKNOWN_LINK
    assert list(node.hooks.unknown_links) == ["ib0 (link type 32)", "tun0 (link type 804)"]
    said = [record for record in caplog.records if "counted, not recorded" in record.message]
    assert len(said) == 2


def test_devices_are_read_where_hooks_are_and_where_they_count_what_passes() -> None:
    node = Following("*", "!lan0")
    counted = LinkStats(rx_packets=1, tx_packets=2, rx_bytes=3, tx_bytes=4)
    for number, (name, kind) in enumerate({"eth0": "", "lan0": "", "bond0": "bond", "veth0": "veth"}.items(), 2):
        node.observer.counted[node.observer.add(name, number, kind=kind)] = counted
    place = node.observer.add("e0", 2, namespace=1, kind="veth")
    node.observer.counted[place] = counted
    assert not node.hooks.device_counts()
    node.hooks.begin()
    assert node.hooks.device_counts() == {
        (name, direction): count
        for name in ("eth0", "veth0", "blue/e0")
        for direction, count in ((INGRESS, DeviceCount(1, 3)), (EGRESS, DeviceCount(2, 4)))
    }


def test_devices_that_cannot_be_watched_are_read_as_well() -> None:
    node = Following("*")
    node.attacher.becomes["v1"] = FAILED
    for number, name in enumerate(("v0", "v1"), 2):
        stats = LinkStats(rx_packets=number, tx_packets=0, rx_bytes=0, tx_bytes=0)
        node.observer.counted[node.observer.add(name, number, kind="veth")] = stats
    node.hooks.begin()
    assert node.watched() == ("v0",)
    counted = node.hooks.device_counts()
    assert [counted[name, INGRESS].packets for name in ("v0", "v1")] == [2, 3]


def test_routes_are_not_asked_for_when_nothing_is_automatic() -> None:
    node = Following("eth0", routes=("ppp0",))
    node.observer.add("ppp0", 3)
    node.hooks.begin()
    assert not node.watched()


def test_what_cannot_be_attached_to_at_the_start_is_named_and_holds_no_other(caplog: pytest.LogCaptureFixture) -> None:
    node = Following("eth*")
    for number in range(5):
        node.observer.add(f"eth{number}", number + 2)
    node.attacher.becomes = {"eth0": FAILED, "eth3": FAILED}
    node.hooks.begin()
    assert node.watched() == ("eth1", "eth2", "eth4")
    assert node.reasons() == {"eth0": REFUSED, "eth3": REFUSED}
    assert node.troubles[0].error == "cannot attach to eth0. Or leave it out: capture.interfaces '!eth0'"
    node.attacher.becomes = {}
    node.after(RETRY_NS)
    assert node.watched() == ("eth0", "eth1", "eth2", "eth3", "eth4")
    assert not node.troubles
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "not all that is wanted is watched; trying again"
    ]


def test_what_cannot_be_attached_to_is_tried_again_more_and_more_rarely(caplog: pytest.LogCaptureFixture) -> None:
    node = Following("eth*")
    node.observer.add("eth0", 2)
    node.hooks.begin()
    place = node.observer.add("eth1", 3)
    node.attacher.becomes["eth1"] = FAILED
    node.after()
    assert node.watched() == ("eth0",)
    assert node.flags() == {"eth0": WATCHED}
    tries = len(node.attacher.asked)
    for _ in range(100):
        node.after(RETRY_NS)
        assert node.reasons() == {"eth1": REFUSED}
    assert 100 * RETRY_NS / LONGEST_RETRY_NS < len(node.attacher.asked) - tries < 20
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) < 12, "a line a minute at most"
    assert 0 < node.hooks.patience() <= LONGEST_RETRY_NS / 1e9
    node.observer.remove(place)
    node.after()
    assert not node.troubles
    assert node.hooks.patience() == node.observer.looks_every


def test_an_interface_that_is_attached_to_again_and_cannot_be_is_named(caplog: pytest.LogCaptureFixture) -> None:
    node = Following("*")
    place = node.observer.add("eth0", 2)
    node.hooks.begin()
    node.attacher.attached.clear()
    node.attacher.becomes["eth0"] = FAILED
    node.observer.unhooked = {place}
    node.after()
    assert not node.watched()
    assert node.reasons() == {"eth0": REFUSED}
    assert "has gone" not in caplog.text


def test_where_interfaces_are_not_seen_is_named() -> None:
    node = Following("*")
    node.observer.problems = {"blue/*": "cannot look into blue"}
    node.hooks.begin()
    assert node.troubles == (Trouble(interface="blue/*", reason=UNSEEN, error="cannot look into blue"),)
    node.observer.problems, node.observer.changed = {}, True
    node.after()
    assert not node.troubles


def test_a_child_that_tells_nothing_is_asked_again() -> None:
    node = Following("eth*")
    node.observer.add("eth0", 2)
    node.hooks.begin()
    node.observer.add("eth1", 3)
    node.attacher.error = EnvironmentProblem("no child")
    node.after()
    assert node.watched() == ("eth0",)
    assert node.reasons() == {"eth1": REFUSED}
    node.attacher.error = None
    node.after()  # those that are attached are looked after at once
    assert [hook.name for hook in node.attacher.asked[-1]] == ["eth0"]
    node.after(RETRY_NS)
    assert node.watched() == ("eth0", "eth1")


@pytest.mark.parametrize("when", ["start", "wait"])
def test_a_child_that_cannot_be_started_at_the_start_ends_nothing_and_is_not_asked_all_the_time(when: str) -> None:
    node = Following("eth*")
    node.observer.add("eth0", 2)
    error = EnvironmentProblem("cannot write the log. Set data_dir to a folder that can be written")
    node.attacher.refuses, node.attacher.error = (error, None) if when == "start" else (None, error)
    node.hooks.begin()
    assert "Set data_dir" in node.troubles[0].error
    for _ in range(100):
        node.after()
    assert len(node.attacher.asked) < 10
    node.attacher.refuses = node.attacher.error = None
    node.after(LONGEST_RETRY_NS)
    assert node.watched() == ("eth0",)
    assert not node.troubles


def test_what_is_wanted_no_more_is_let_go_at_our_end_if_it_cannot_be_now(caplog: pytest.LogCaptureFixture) -> None:
    node = Following("eth*", adopted={4: "old0"})
    node.observer.add("eth0", 2)
    node.attacher.keeps = EnvironmentProblem("no child")
    node.hooks.begin()
    assert node.watched() == ("eth0",)
    assert node.tables.interfaces[4] == (0, 0, "old0")
    assert "cannot detach" in caplog.text


def test_an_interface_that_has_gone_meanwhile_is_forgotten() -> None:
    node = Following("eth*")
    node.observer.add("eth0", 2)
    node.attacher.becomes["eth0"] = GONE
    node.hooks.begin()
    assert not node.watched()
    assert not node.tables.watched
    node.attacher.becomes = {}
    node.after()  # it was still seen: there is one of that name again
    assert node.watched() == ("eth0",)


def test_one_that_goes_is_watched_no_more_and_its_slot_waits_for_its_events() -> None:
    node = Following("*")
    place = node.observer.add("eth0", 2)
    node.hooks.begin()
    node.observer.remove(place)
    node.observer.add("eth1", 3)
    node.after()
    assert node.watched() == ("eth1",)
    assert node.names == {0: "eth0", 1: "eth1"}
    assert node.tables.watched == {(0, 3)}
    assert node.flags() == {"eth1": WATCHED}
    node.observer.add("eth2", 4)
    node.after()
    assert node.names[2] == "eth2"
    for _ in range(2):  # a program that ran at the swap may have counted in the second
        assert node.names[0] == "eth0"
        node.epochs.confirm(node.epochs.close().number)
    node.observer.add("eth3", 5)
    node.after()
    assert node.names == {0: "eth3", 1: "eth1", 2: "eth2"}


def test_a_renamed_interface_is_another() -> None:
    node = Following("*")
    node.observer.add("eth0", 2)
    node.hooks.begin()
    node.observer.add("wan", 2)
    node.after()
    assert node.watched() == ("wan",)
    assert [hook.slot for hook in node.attacher.asked[-1]] == [1]


def test_hooks_that_somebody_removed_are_put_back() -> None:
    node = Following("*")
    places = [node.observer.add("eth0", 2), node.observer.add("eth1", 3)]
    node.hooks.begin()
    node.observer.unhooked = {places[1], (0, 99)}
    node.attacher.attached.discard("eth1")
    node.after()
    assert node.attacher.looked == [["eth1"]]
    assert [hook.name for hook in node.attacher.asked[-1]] == ["eth1"]
    assert node.watched() == ("eth0", "eth1")


def test_hooks_of_which_nobody_tells_that_they_went_are_put_back() -> None:
    node = Following("*")
    for number in range(2 * SWEPT):
        node.observer.add(f"veth{number:03}", 2 + number)
    node.hooks.begin()
    node.after()
    assert not node.attacher.looked
    node.attacher.attached.discard("veth007")
    node.after(SWEEP_NS)
    node.after()
    assert [len(names) for names in node.attacher.looked] == [SWEPT, SWEPT]
    assert sorted(name for names in node.attacher.looked for name in names) == sorted(node.watched())
    assert [hook.name for hook in node.attacher.asked[-1]] == ["veth007"]
    assert "veth007" in node.attacher.attached
    node.after()
    assert len(node.attacher.looked) == 2


def test_a_look_waits_until_what_is_being_attached_is() -> None:
    node = Following("*")
    place = node.observer.add("eth0", 2)
    node.attacher.done = False
    node.after()
    node.observer.unhooked = {place}
    node.after()
    assert not node.attacher.looked
    assert node.hooks.patience() == LOOK_NS / 1e9
    node.attacher.done = True
    node.after()
    assert node.attacher.looked == [["eth0"]]


def test_a_program_that_runs_before_ours_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    node = Following("*")
    node.observer.add("eth0", 2)
    node.hooks.begin()
    for programs in (("drops (ingress)",), ("drops (ingress)",), (), ("drops (ingress)",)):
        node.attacher.before["eth0"] = programs
        node.after(SWEEP_NS)
    told = [record for record in caplog.records if "before ours" in record.message]
    assert len(told) == 2


def test_what_cannot_be_seen_of_an_interface_is_named_and_tried_again() -> None:
    node = Following("*")
    node.observer.add("eth0", 2)
    node.attacher.lacks["eth0"] = "what leaves is not seen"
    node.hooks.begin()
    assert node.watched() == ("eth0",)
    for _ in range(2):
        node.attacher.attached.clear()  # such a hook is not in place
        node.after(SWEEP_NS)
    assert len(node.attacher.asked) == 3
    assert node.troubles == (Trouble(interface="eth0", reason=PARTLY, error="what leaves is not seen"),)


def test_what_was_attached_to_an_interface_that_went_is_let_go() -> None:
    node = Following("*", adopted={5: "gone"})
    place = node.observer.add("eth0", 2)
    node.hooks.begin()
    assert node.attacher.released == [5]
    node.observer.remove(place)
    node.after()
    assert node.attacher.released == [5, 0]


def test_of_two_ends_of_a_pair_one_is_primary_and_namespaces_have_their_names() -> None:
    node = Following("*", "*/*")
    node.observer.add("veth0", 2, kind="veth", link=3)
    node.observer.add("veth1", 3, kind="veth", link=2)
    node.observer.add("eth0", 2, namespace=1)
    node.hooks.begin()
    assert node.flags() == {"veth0": WATCHED, "veth1": WATCHED | BOTH, "blue/eth0": WATCHED}
    assert [hook.namespace for hook in node.attacher.asked[0]] == [None, None, "/run/netns/blue"]


def test_what_an_earlier_process_attached_to_is_gone_on_with_or_let_go() -> None:
    node = Following("eth*", adopted={4: "eth0", 5: "old0"})
    node.attacher.attached = {"eth0", "old0"}
    node.tables.watched = {(0, 2), (0, 8), (3, 2)}  # it numbered namespaces in its own way
    counters = counter_key(4, INGRESS)
    node.maps.maps[1][counters]["seen_packets"] += 7
    node.observer.add("eth0", 2)
    node.observer.add("eth1", 3)
    node.hooks.begin()
    assert node.names == {0: "eth1", 4: "eth0", 5: "old0"}
    assert node.watched() == ("eth0", "eth1")
    assert node.attacher.kept == [("eth0", "eth1")]
    assert node.tables.watched == {(0, 2), (0, 3)}
    assert node.tables.interfaces[5] == (0, 0, "old0")
    assert node.maps.maps[1][counters]["seen_packets"] == 7, "what it counted is not zeroed"


def test_more_interfaces_than_slots_are_not_watched_until_one_is_free() -> None:
    node = Following("*")
    for number in range(1, MAX_INTERFACES + 2):
        node.observer.add(f"eth{number}", number)
    node.hooks.begin()
    assert len(node.watched()) == MAX_INTERFACES
    last = f"eth{MAX_INTERFACES + 1}"
    assert last not in node.watched()
    assert node.reasons() == {last: TOO_MANY}
    assert "512 interfaces are, which is the most" in node.troubles[0].error
    node.observer.remove((0, 1))
    node.after()
    for _ in range(2):
        node.epochs.confirm(node.epochs.close().number)
    node.after(RETRY_NS)
    assert last in node.watched()
    assert node.names[0] == last
    assert not node.troubles


def test_all_that_is_known_of_an_interface_is_forgotten_when_its_counters_have_been_sent() -> None:
    node = Following("*")
    registry = CollectorRegistry()
    metrics = ProducerMetrics(registry)
    for number in range(1_000):
        place = node.observer.add(f"veth{number}", number + 2)
        node.after()
        closed = node.epochs.close()
        metrics.count([counters(interface=f"veth{number}", seen_packets=3, seen_bytes=180)])
        node.observer.remove(place)
        node.after()
        node.epochs.confirm(closed.number)
        node.epochs.confirm(node.epochs.close().number)
        node.after()
        metrics.keep(node.names.values())
    assert len(node.names) <= 2
    assert len(generate_latest(registry).splitlines()) < 200
    assert len([name for _, _, name in node.tables.interfaces.values() if name]) <= 2
    assert registry.get_sample_value("ayaflow_producer_seen_packets_total") == 3_000
    assert registry.get_sample_value("ayaflow_producer_seen_bytes_total") == 180_000


def test_while_there_are_news_nobody_looks_at_each_of_them() -> None:
    node = Following("*")
    node.hooks.begin()
    assert node.hooks.descriptors() == (7,)
    node.observer.add("eth0", 2)
    node.hooks.step()
    assert node.hooks.descriptors() == ()
    node.observer.add("eth1", 3)
    node.hooks.step()
    assert len(node.attacher.asked) == 1
    node.after()
    assert node.watched() == ("eth0", "eth1")


def test_one_child_at_a_time() -> None:
    node = Following("*")
    node.observer.add("eth0", 2)
    node.attacher.done = False
    node.after()
    node.observer.add("eth1", 3)
    node.after()
    assert len(node.attacher.asked) == 1
    assert not node.watched()
    node.attacher.done = True
    node.after()
    assert node.watched() == ("eth0", "eth1")


def test_closing_ends_the_child() -> None:
    node = Following("*")
    node.observer.add("eth0", 2)
    node.attacher.done = False
    node.hooks.step()
    node.hooks.close()
    assert node.attacher.killed
    assert node.observer.closed
