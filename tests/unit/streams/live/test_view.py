from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.avro.codec import Codec
from streams.live.feed import OTHERS, LiveFeed
from streams.partition.state import Partition
from tests.unit.streams.batches import SECOND, STRIDE, Packet, batch, counters
from tests.unit.streams.windowing.test_naming import DNS, SNI, Named, named

START = 1_800_000_000


class Feed:
    """A partition and its live view."""

    def __init__(self, top: int = 50, window_seconds: int = 10) -> None:
        self.state = Partition(0, position=0, window_seconds=window_seconds, node_timeout_seconds=10)
        self.feed = LiveFeed(top)
        self.positions: Counter[str] = Counter()
        self.now = 0.0

    def add(
        self,
        packets: list[Packet],
        second: float,
        node: str = "n1",
        closing: Any = (),
        now: float | None = None,
        *,
        names: Sequence[Named] = (),
    ) -> None:
        """`second`: of the node's clock; `now` of ours, if that is another. `names`: of the flows."""
        clock = int((START + second) * SECOND)
        self.now = START + (second if now is None else now)
        made = batch(packets, node=node, clock_ns=clock, ring_start=self.positions[node], counters=closing)
        self.positions[node] += STRIDE * len(packets)
        made = named(made, [*names]) if names else made
        self.feed.add(self.state, made, self.state.take(self.state.position, made, self.now), self.now)

    def summaries(self, lag: int = 0) -> list[dict[str, Any]]:
        return [summary() for summary in self.feed.due({0: lag}, self.now)]


def at(second: float, **fields: Any) -> Packet:
    return Packet(time_ns=int((START + second) * SECOND), **fields)


def test_totals_cover_the_interval_and_the_top_covers_the_open_windows() -> None:
    feed = Feed()
    feed.add([], 0)
    for second in (1, 2):
        seen = [
            at(second - 0.5, bytes=100),
            at(
                second - 0.4,
                src="10.0.0.2",
                dst="10.0.0.1",
                src_port=443,
                dst_port=40000,
                direction=1,
                bytes=900,
                packets=2,
            ),
        ]
        feed.add(seen, second, closing=counters(second, seen, non_ip=3, ring_full=1))
        (stats,) = feed.summaries(lag=4)
    assert stats["time"] == datetime.fromtimestamp(START + 2, UTC)
    assert (stats["node"], stats["interval_ms"], stats["lag_messages"], stats["active_flows"]) == ("n1", 1000, 4, 1)
    assert stats["interfaces"] == [
        {
            "interface": "eth0",
            "direction": "ingress",
            "packets": 1,
            "bytes": 100,
            "primary_packets": 1,
            "primary_bytes": 100,
            "non_ip_packets": 3,
            "malformed_packets": 0,
            "unknown_link_packets": 0,
            "ring_full_packets": 1,
            "coalesced_packets": 0,
            "copied_packets": 0,
        },
        {
            "interface": "eth0",
            "direction": "egress",
            "packets": 2,
            "bytes": 900,
            "primary_packets": 2,
            "primary_bytes": 900,
            "non_ip_packets": 3,
            "malformed_packets": 0,
            "unknown_link_packets": 0,
            "ring_full_packets": 1,
            "coalesced_packets": 0,
            "copied_packets": 0,
        },
    ]
    (flow,) = stats["top"]
    assert (flow["src_addr"], flow["packets"], flow["bytes"], flow["packets_rev"], flow["bytes_rev"]) == (
        "10.0.0.1",
        2,
        200,
        4,
        1800,
    )
    assert flow["first_seen"] == datetime.fromtimestamp(START + 0.5, UTC)
    codec = Codec()
    assert codec.decode_live_stats(codec.encode_live_stats(stats)) == stats


def test_connections_have_the_best_name_that_was_seen_and_the_newest_of_equals() -> None:
    feed = Feed()
    feed.add([], 0)
    found = []
    equals = [Named("a.example", SNI, 1), Named("b.example", SNI, 1)]
    seen = [Named(), Named("cdn.example", DNS, 2), *equals, Named("c.example", DNS, 1)]
    for second, name in enumerate(seen, 1):
        others = [at(second - 0.4, src_port=50_000 + second, bytes=1)]  # flows without a name, new ones each second
        feed.add([at(second - 0.5, bytes=100), *others], second, names=[name, Named()] if name.domain else ())
        top = feed.summaries()[0]["top"]
        found.append((top[0]["domain"], top[0]["domain_source"]))
        assert {(each["domain"], each["domain_source"]) for each in top[1:]} == {("", "")}
    assert found == [("", ""), ("cdn.example", "dns"), ("a.example", "sni"), ("b.example", "sni"), ("b.example", "sni")]


def test_a_connection_through_a_router_is_one_row_and_each_packet_is_counted_once() -> None:
    """Each way is primary where it came in; it left by the other interface."""
    there = {"src": "10.0.0.1", "dst": "10.0.1.1", "src_port": 40000, "dst_port": 443, "bytes": 100}
    back = {"src": "10.0.1.1", "dst": "10.0.0.1", "src_port": 443, "dst_port": 40000, "bytes": 900}
    feed = Feed()
    feed.add([], 0)
    feed.add(
        [
            at(0.1, **there, interface="eth0", direction=0),
            at(0.1, **there, interface="eth1", direction=1, primary=False),
            at(0.2, **back, interface="eth1", direction=0),
            at(0.2, **back, interface="eth0", direction=1, primary=False),
        ],
        1,
    )
    (stats,) = feed.summaries()
    assert stats["active_flows"] == 1
    (flow,) = stats["top"]
    assert (flow["src_addr"], flow["interface"], flow["direction"]) == ("10.0.0.1", "eth0", "ingress")
    assert (flow["packets"], flow["bytes"], flow["packets_rev"], flow["bytes_rev"]) == (1, 100, 1, 900)
    found = {(one["interface"], one["direction"]): one for one in stats["interfaces"]}
    assert [one["packets"] for one in found.values()] == [1, 1, 1, 1]
    assert found["eth0", "ingress"]["primary_bytes"] == 100
    assert found["eth1", "ingress"]["primary_bytes"] == 900
    assert found["eth0", "egress"]["primary_packets"] == found["eth1", "egress"]["primary_packets"] == 0


def test_a_window_that_ended_is_no_longer_shown() -> None:
    feed = Feed()
    feed.add([at(1, src_port=1000)], 1)
    feed.add([at(11, src_port=2000)], 11)
    (stats,) = feed.summaries()
    assert [flow["src_port"] for flow in stats["top"]] == [2000]


def test_nodes_are_told_apart_and_an_idle_one_is_told_once() -> None:
    feed = Feed()
    feed.add([], 0, node="a")
    feed.add([], 0, node="b")
    feed.add([at(0.5)], 1, node="a")
    feed.add([], 1, node="b")
    found = {stats["node"]: stats["active_flows"] for stats in feed.summaries()}
    assert found == {"a": 1, "b": 0}
    assert feed.summaries() == []
    assert feed.feed.active_flows == 1


def test_nodes_of_a_partition_that_went_are_forgotten() -> None:
    feed = Feed()
    feed.add([at(0.5)], 1)
    assert feed.feed.due({}, feed.now) == []
    assert feed.feed.active_flows == 0


@pytest.mark.parametrize("step", [-3600, 365 * 86_400])
def test_a_step_of_a_nodes_clock_keeps_nothing_back(step: int) -> None:
    feed = Feed()
    most = 0
    for now in range(299):
        ahead = step if 20 <= now < 200 else 0
        seen = [at(now + ahead + 0.5, src_port=1000 + port) for port in range(20)]
        feed.add(seen, now + 1 + ahead, now=now + 1)
        if now:
            (stats,) = feed.summaries()
            # an hour ahead may be what was behind
            assert 900 <= stats["interval_ms"] <= (3_601_000 if now == 200 else 1100)
            assert sum(one["packets"] for one in stats["interfaces"]) == (40 if now == 1 else 20)
            most = max(most, feed.feed.nbytes)
    assert 0 < most < 1_000_000
    assert stats["active_flows"] == 20


def test_windows_of_a_node_that_is_ahead_of_the_others_end_by_its_own_clock() -> None:
    feed = Feed()
    for now in range(100):
        feed.add([], now, node="right")
        feed.add([at(now + 7200, src_port=1000 + now)], now + 7200.5, node="ahead", now=now)
        ahead = [stats for stats in feed.summaries() if stats["node"] == "ahead"]
    assert ahead[0]["active_flows"] == 10


def test_windows_that_get_nothing_more_are_over_whatever_their_nodes_clock_says() -> None:
    feed = Feed()
    feed.add([], 0)
    feed.add([at(86_400 + 10 * window) for window in range(500)], 1)
    (stats,) = feed.summaries()
    assert stats["active_flows"] == 1
    for now in range(2, 30):
        feed.add([], now)
        (stats,) = feed.summaries()
    assert stats["active_flows"] == 0
    assert feed.feed.nbytes == 0


def test_where_there_is_no_room_only_totals_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.live.feed.MOST_BYTES", 2_000)
    feed = Feed()
    feed.add([], 0)
    feed.add([at(1, src_port=port) for port in range(1, 100)], 1)
    (stats,) = feed.summaries()
    assert (stats["interfaces"][0]["packets"], stats["top"], feed.feed.left_out) == (99, [], 99)


def test_of_many_interfaces_the_rest_are_told_of_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.live.feed.MOST_PASSAGES", 10)
    feed = Feed()
    feed.add([], 0)
    feed.add([at(1, interface=f"veth{number}") for number in range(100)], 1)
    (stats,) = feed.summaries()
    assert len(stats["interfaces"]) == 11
    assert sum(one["packets"] for one in stats["interfaces"]) == 100
    assert next(one for one in stats["interfaces"] if one["interface"] == OTHERS)["packets"] == 90


def test_a_node_that_is_silent_is_forgotten_by_our_clock() -> None:
    feed = Feed()
    feed.add([at(1)], 1)
    feed.add([at(1)], 1 - 7200, node="behind", now=1)
    feed.now += 60
    feed.summaries()
    assert feed.feed.nodes == 2
    feed.now += 1
    feed.summaries()
    assert (feed.feed.nodes, feed.feed.nbytes) == (0, 0)


sizes = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 1000), st.booleans()), min_size=1, max_size=120)


@given(st.lists(sizes, min_size=1, max_size=4))
def test_the_top_list_is_that_of_a_simple_count(seconds: list[list[tuple[int, int, bool]]]) -> None:
    feed = Feed(top=5)
    total: Counter[int] = Counter()
    feed.add([], 0)
    for number, some in enumerate(seconds):
        packets = []
        for port, size, reverse in some:
            total[port] += size
            there = {"src_port": port + 40000, "bytes": size}
            back = {
                "src": "10.0.0.2",
                "dst": "10.0.0.1",
                "src_port": 443,
                "dst_port": port + 40000,
                "direction": 1,
                "bytes": size,
            }
            packets.append(at(number + 0.5, **(back if reverse else there)))
        feed.add(packets, number + 1)
        (stats,) = feed.summaries()
    assert stats["active_flows"] == len(total)
    top = [(flow["bytes"] + flow["bytes_rev"]) for flow in stats["top"]]
    assert top == sorted(total.values(), reverse=True)[:5]
    assert all(total[flow["src_port"] - 40000] == flow["bytes"] + flow["bytes_rev"] for flow in stats["top"])


def test_the_nodes_of_a_partition_share_what_is_known_of_who_began() -> None:
    feed = Feed()
    for number in range(20):
        feed.add([at(1)], 1, node=f"n{number}")
    assert len({id(each.view._initiators) for _, each in feed.feed._nodes.items()}) == 1
