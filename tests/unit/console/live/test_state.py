"""Connections put together from LiveStats messages."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.live.state import LiveState
from console.testing import at, flow
from console.testing import live_stats as stats


def steady(seconds: int, window: int, rate: int, close_after: float) -> LiveState:
    """A connection with `rate` bytes a second, as streams would show it: windows close a while after their end."""
    state = LiveState(60)
    for second in range(1, seconds + 1):
        first = max(0, (second - 1) // window * window)
        if second - first <= close_after and first:
            first -= window  # the window before is still open
        state.add(stats(second, flow(first, second, (second - first) * rate), packets=rate // 100, bytes=rate), second)
    return state


@given(st.integers(2, 90), st.sampled_from([5, 10, 60]), st.integers(100, 100_000), st.sampled_from([0, 1, 1.5]))
def test_counts_go_on_when_windows_close(seconds: int, window: int, rate: int, close_after: float) -> None:
    state = steady(seconds, window, rate, close_after)
    (row,) = state.connections(seconds)
    assert abs(row["bytes"] - seconds * rate) <= rate + seconds
    assert abs(row["bytes_per_second"] - rate) <= 0.3 * rate
    assert (row["first_seen"], row["last_seen"]) == (
        at(0).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        at(seconds).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    )
    assert state.totals()["bytes"] == seconds * rate


def test_a_connection_is_active_until_the_timeout_and_has_no_rate_meanwhile() -> None:
    state = LiveState(60)
    state.add(stats(1, flow(0, 1, 500)), 101)
    state.add(stats(2, flow(0, 2, 900)), 102)
    assert state.connections(102)[0]["bytes_per_second"] == 400
    state.add(stats(3), 103)
    assert state.connections(103)[0]["bytes_per_second"] == 0
    for second in range(4, 63):
        state.add(stats(second), 100 + second)
    assert len(state.connections(162)) == 1
    assert state.connections(162.1) == []
    state.add(stats(63), 163)
    assert state.connections(163) == []


def test_a_connection_that_comes_back_counts_on() -> None:
    state = LiveState(60)
    state.add(stats(1, flow(0, 1, 500)), 1)
    state.add(stats(15), 15)
    state.add(stats(30, flow(29, 30, 300)), 30)
    (row,) = state.connections(30)
    assert (row["bytes"], row["packets"]) == (800, 8)


def test_a_node_that_is_silent_is_left_out_and_its_sums_stay() -> None:
    state = LiveState(60)
    state.add(stats(1, flow(0, 1, 500), packets=5, bytes=500, ring_full_packets=2), 1)
    state.add(stats(50, flow(49, 50, 100), node="n2", packets=1, bytes=100), 50)
    assert list(state.nodes(61)) == ["n1", "n2"]
    assert list(state.nodes(62)) == ["n2"]
    assert state.active_connections(62) == {"n2": 1}
    assert [row["node"] for row in state.connections(62)] == ["n2"]
    assert state.totals() == {
        "packets": 6,
        "bytes": 600,
        "primary_packets": 6,
        "primary_bytes": 600,
        "non_ip_packets": 0,
        "malformed_packets": 0,
        "unknown_link_packets": 0,
        "ring_full_packets": 2,
        "coalesced_packets": 0,
        "copied_packets": 0,
    }
    assert state.rates(62, 10) == (0, 0)
    assert state.rates(52, 10) == (1, 100)


def test_rates_count_each_packet_once() -> None:
    state = LiveState(60)
    state.add(stats(1, packets=10, bytes=1000, primary_packets=6, primary_bytes=600), 1)
    assert state.rates(1, 10) == (6, 600)
    assert state.node_rows(1, at(1))[0]["interfaces"][0]["packets_per_second"] == 10


def test_rates_are_steady_though_messages_have_whole_batches_of_steady_traffic() -> None:
    """3,000 packets a second as streams told of them: (ms since the message before, packets)."""
    told = [
        (1057, 3200),
        (1066, 3200),
        (1041, 3100),
        (1047, 3100),
        (528, 2500),
        (1047, 3000),
        (1055, 3400),
        (1051, 3100),
        (1049, 2200),
        (1050, 3200),
        (1046, 3100),
        (523, 2500),
        (1050, 3100),
        (1066, 2401),
    ]
    state, clock, found = LiveState(60), 0.0, []
    for interval_ms, packets in told:
        clock += interval_ms / 1000
        state.add({**stats(clock, packets=packets, bytes=60 * packets), "interval_ms": interval_ms}, clock)
        packets_per_second, bytes_per_second = state.rates(clock, 10)
        assert bytes_per_second == pytest.approx(60 * packets_per_second, rel=0.001)
        assert state.node_rows(clock, at(clock))[0]["interfaces"][0]["packets_per_second"] == round(
            packets_per_second, 1
        )
        found.append(packets_per_second)
    assert all(0.85 * 3000 < one < 1.15 * 3000 for one in found[2:]), found
    state.add({**stats(clock + 600, packets=600), "interval_ms": 600_000}, clock + 600)
    assert state.rates(clock + 600, 10) == (1, 0)


def test_sorting_limit_and_choice() -> None:
    state = LiveState(60)
    for second in (1, 2):
        state.add(
            stats(
                second,
                flow(0, second, 10_000 + second, src_port=1),
                flow(0, second, 5000 * second, src_port=2),
                flow(0, second, 300, src_port=3, packets_rev=900),
            ),
            second,
        )
    ports = {
        sort: [row["src_port"] for row in state.connections(2, sort=sort)] for sort in ("bytes", "packets", "rate")
    }
    assert ports == {"bytes": [1, 2, 3], "packets": [3, 1, 2], "rate": [2, 1, 3]}
    assert len(state.connections(2, limit=2)) == 2
    assert [row["src_port"] for row in state.connections(2, limit=1, chosen=lambda row: row["src_port"] == 3)] == [3]


@pytest.mark.parametrize("step", [-3600, 3600, 30 * 86_400])
def test_a_step_of_a_nodes_clock_freezes_nothing(step: int) -> None:
    """Messages count as they come. The first of the connections ends with the step."""
    state = LiveState(60)
    for second in range(1, 200):
        time = second + (step if second >= 100 else 0)
        port = 1 if second < 100 else 2
        first = time // 10 * 10
        state.add(stats(time, flow(first, time, (time - first) * 100, src_port=port), packets=1, bytes=100), second)
        assert state.nodes(second)
        assert 90 <= state.rates(second, 10)[1] <= 110
        listed = {row["src_port"]: row for row in state.connections(second)}
        assert set(listed) == {*([1] if second < 160 else []), *([2] if second >= 100 else [])}
    assert 0 <= listed[2]["bytes_per_second"] <= 200
    assert max(len(node.recent) for node in state.nodes(199).values()) <= 4
    assert state.totals()["packets"] == 199
    (row,) = state.node_rows(199, at(199))
    assert (row["time"], row["delay_seconds"]) == (at(199 + step).strftime("%Y-%m-%dT%H:%M:%S.%fZ"), 0)


def test_a_clock_that_stands_still_makes_no_wild_rates() -> None:
    state = LiveState(60)
    for second in range(1, 100):
        state.add(stats(5, flow(0, 5, 100 * second), packets=1, bytes=100), second)
    assert state.connections(99)[0]["bytes_per_second"] < 10_000
    assert 90 <= state.rates(99, 10)[1] <= 110


def test_what_a_node_says_is_old_while_its_messages_wait_and_not_for_a_wrong_clock() -> None:
    state = LiveState(60)
    state.add(stats(0), 3600)
    assert state.node_rows(3602, at(3602))[0]["delay_seconds"] == 2
    state.add({**stats(1), "lag_messages": 5_000}, 3603)
    assert state.node_rows(3603, at(3603))[0]["delay_seconds"] == 3602


def test_interfaces_and_nodes_that_have_gone_are_forgotten_and_totals_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    passed, nodes = 2_000, 100
    monkeypatch.setattr("console.live.state.PASSED_KEPT", passed)
    monkeypatch.setattr("console.live.state.NODES_KEPT", nodes)
    state = LiveState(60)
    for number in range(3_000):
        one = {**stats(number / 100, packets=1)["interfaces"][0], "interface": f"veth{number}"}
        state.add({**stats(number / 100, node=f"n{number % 200}"), "interfaces": [one]}, number / 100)
    assert len(state.passed) == passed
    assert len(state._nodes) == nodes
    assert state.totals()["packets"] == 3_000
    state.add(stats(2_000, packets=1), 2_000)
    assert list(state.passed) == [("n1", "eth0", "ingress")]
    assert len(state._nodes) == 1
    assert state.totals()["packets"] == 3_001


def test_a_flood_of_connections_is_bounded(monkeypatch: Any) -> None:
    monkeypatch.setattr("console.live.state.CONNECTIONS_KEPT", 100)
    state = LiveState(60)
    for second in range(1, 6):
        state.add(
            stats(second, *(flow(second - 1, second, 100, src_port=50 * second + port) for port in range(50))), second
        )
    assert len(state.connections(5, limit=1000)) == 100
    assert min(row["src_port"] for row in state.connections(5, limit=1000)) == 200


def test_connections_of_all_nodes_are_bounded(monkeypatch: Any) -> None:
    monkeypatch.setattr("console.live.state.ALL_CONNECTIONS_KEPT", 100)
    state = LiveState(60)
    for second in range(1, 6):
        for node in range(10):
            ports = range(50 * second, 50 * second + 20)
            flows = [flow(second - 1, second, 100, src_port=port) for port in ports]
            state.add(stats(second, *flows, node=f"n{node}"), second)
    assert len(state.connections(5, limit=1000)) <= 100
