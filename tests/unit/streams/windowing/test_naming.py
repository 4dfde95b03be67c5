"""What flows are about: the best source wins, the newest of equals, however the rows are divided."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.fields import DOMAIN_RANKS, DOMAIN_SOURCES, NAMED
from schemas.flows import FlowColumns
from schemas.packets import PacketBatch
from streams.windowing.biflow import merge
from streams.windowing.initiators import Initiators
from streams.windowing.keys import pack
from streams.windowing.naming import Naming
from streams.windowing.offline import OfflineWindows
from streams.windowing.rows import Rows, compact, concatenate
from streams.windowing.spill import Spill
from streams.windowing.windows import split
from tests.unit.streams.batches import SECOND, Packet, batch

START = 1_800_000_000
SNI, HTTP, QUIC, DNS, REVERSE = (DOMAIN_SOURCES.index(source) for source in ("sni", "http", "quic", "dns", "reverse"))


class Named(NamedTuple):
    """What a message says of its one flow."""

    domain: str = ""
    source: int = 0
    names: int = 0
    ja4: str = ""
    alpn: str = ""


NOTHING = Named()


def named(made: PacketBatch, names: list[Named]) -> PacketBatch:
    """A batch with names of its flows."""
    lists = {
        name: tuple(dict.fromkeys(filter(None, (getattr(each, name) for each in names))))
        for name in ("domain", "ja4", "alpn")
    }

    def places(name: str) -> Any:
        texts = [getattr(each, name) for each in names]
        return np.array([lists[name].index(text) if text else -1 for text in texts], np.int32)

    columns = {name: places(name) for name in lists} | {
        "domain_source": np.array([each.source for each in names], np.uint8),
        "domain_count": np.array([each.names for each in names], np.uint16),
    }
    flows = replace(made.flows, **columns)
    return replace(made, flows=flows, domains=lists["domain"], ja4s=lists["ja4"], alpns=lists["alpn"])


def message(second: float, name: Named, *, back: bool = False) -> PacketBatch:
    """One packet of a flow, there or back."""
    ends: dict[str, Any] = {"src": "10.0.0.1", "dst": "10.0.0.2", "src_port": 40_000, "dst_port": 443, "direction": 1}
    if back:
        ends = {"src": "10.0.0.2", "dst": "10.0.0.1", "src_port": 443, "dst_port": 40_000, "direction": 0}
    made = batch([Packet(time_ns=START * SECOND + int(second * SECOND), **ends)])
    return named(made, [name]) if name != NOTHING else made


def rows_of(naming: Naming, made: PacketBatch) -> Rows:
    keys = pack(made.flows, node=0, interfaces=np.zeros(1, np.int32), tunnels=np.zeros(len(made.flows), np.uint32))
    numbers = naming.numbers(made)
    return concatenate([share.rows.packed(keys, numbers) for share in split(made, 3600)])


def flows(naming: Naming, rows: Rows) -> FlowColumns:
    return merge(
        rows, window_begin=START, window_seconds=3600, node_names=("n1",), interface_names=("eth0",),
        naming=naming.table(), initiators=Initiators(),
    )  # fmt: skip


def shown(found: FlowColumns, row: int = 0) -> Named:
    return Named(
        found.domain_names[found.domain[row]],
        int(found.domain_source[row]),
        int(found.domain_count[row]),
        found.ja4_names[found.ja4[row]],
        found.alpn_names[found.alpn[row]],
    )


def seen(*messages: PacketBatch) -> Named:
    """What the flow is about when these came one after the other."""
    naming = Naming()
    found = flows(naming, concatenate([rows_of(naming, each) for each in messages]))
    assert len(found) == 1
    return shown(found)


def test_a_name_that_comes_after_the_first_packets_stands_in_the_window() -> None:
    name = Named("www.example", SNI, 1, "t13d", "h2")
    assert seen(message(0, NOTHING), message(1, name), message(2, NOTHING, back=True)) == name


@pytest.mark.parametrize("source", [HTTP, DNS, REVERSE])
@pytest.mark.parametrize("best", [SNI, QUIC])
def test_what_the_client_says_beats_all_else_whenever_it_came(best: int, source: int) -> None:
    good, other = Named("good.example", best, 1), Named("other.example", source, 3)
    for messages in ([message(0, good), message(9, other)], [message(0, other), message(9, good)]):
        assert seen(*messages) == good


def test_sni_and_quic_are_equally_good_and_the_newest_of_them_counts() -> None:
    first, second = Named("a.example", SNI, 1), Named("b.example", QUIC, 1)
    assert seen(message(0, first), message(1, second)) == second
    assert seen(message(1, second), message(0, first)) == second, "by time, not by order"
    both = seen(message(0, first), message(0, second, back=True))
    assert both == seen(message(0, second, back=True), message(0, first)), "of one moment always the same"


def test_a_fingerprint_stays_when_a_better_name_comes_without_one() -> None:
    assert seen(message(0, Named("a", DNS, 1, "t13d", "h2")), message(1, Named("b", HTTP, 1))) == Named(
        "b", HTTP, 1, "t13d", "h2"
    )


def test_flows_without_names_carry_no_columns_of_them() -> None:
    naming = Naming()
    rows = compact(rows_of(naming, message(0, NOTHING)))
    assert not rows.named
    found = flows(naming, rows)
    assert (found.domain_names, shown(found)) == (("",), NOTHING)


texts = st.sampled_from(["a", "b", "c"])
names = st.one_of(
    st.just(NOTHING),
    st.builds(
        Named,
        texts,
        st.integers(0, len(DOMAIN_SOURCES) - 1),
        st.integers(0, 9),
        st.just("") | texts,
        st.just("") | texts,
    ),
)
messages = st.lists(st.builds(message, st.integers(0, 4), names, back=st.booleans()), min_size=1, max_size=12)


@given(messages, st.data())
def test_the_best_name_is_found_however_rows_are_compacted(some: list[PacketBatch], data: st.DataObject) -> None:
    naming = Naming()
    parts = [rows_of(naming, each) for each in some]
    whole = shown(flows(naming, concatenate(parts)))
    cut = data.draw(st.integers(0, len(parts)))
    pieces = [compact(concatenate(part)) for part in (parts[:cut], parts[cut:]) if part]
    assert shown(flows(naming, concatenate(pieces))) == whole
    said = [(DOMAIN_RANKS[int(each.flows.domain_source[0])], each.domains[0]) for each in some if each.domains]
    assert whole.domain in {domain for rank, domain in said if rank == max(said)[0]} if said else not whole.domain


@given(messages)
def test_a_replay_on_disk_gives_the_names_of_memory(some: list[PacketBatch]) -> None:
    found = []
    for limit in (0, 1 << 20):
        spill = Spill()
        windows = OfflineWindows(window_seconds=3600, store=spill, memory_bytes=limit)
        for each in some:
            windows.add(each)
        found.append([shown(each) for each in windows.flows()])
        spill.close()
    assert found[0] == found[1]


def test_names_that_are_not_in_use_are_forgotten_and_bounded() -> None:
    naming = Naming(many=4)
    kept = rows_of(naming, message(0, Named("kept", SNI, 1, "ja4", "h2")))
    for number in range(100):
        rows_of(naming, message(0, Named(f"name{number}", SNI, 1)))
        if naming.crowded:
            naming.keep(kept.domain, kept.hello)
    assert len(naming.table().domains) < 20
    assert shown(flows(naming, kept)) == Named("kept", SNI, 1, "ja4", "h2")
    naming = Naming(most_octets=10_000)
    rows_of(naming, message(0, Named("n" * 10_000, SNI, 1)))
    assert naming.crowded
    nothing = np.zeros(0, np.uint64)
    naming.keep(nothing, nothing)
    assert naming.nbytes == 0
    assert {field.name for field in NAMED} == {"domain", "domain_source", "domain_count", "ja4", "alpn"}
