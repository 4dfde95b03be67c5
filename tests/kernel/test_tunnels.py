"""Tunnels that are opened on request, by TEST_RUN: the inner flow with the outer one beside it, or the outer one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from producer import pins
from tests.kernel.frames import EVENTS, MALFORMED, NON_IP, Case
from tests.kernel.harness import UNSPEC, Program, shown
from tests.kernel.tunnel_frames import ALL, KEPT, OPENED, Tunnelled, expected

pytestmark = pytest.mark.root

_OF_THE_RUN = {"ktime_ns", "flow_hash", "epoch"}
NOTHING = {"outer_src": bytes(16), "outer_dst": bytes(16), "tunnel_id": 0, "tunnel_type": 0}


@pytest.fixture(scope="module")
def opening(bpffs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """The program that opens every tunnel."""
    directory = pins.node_directory(bpffs, "kernel-test-tunnels")
    program = Program(directory, tmp_path_factory.mktemp("tunnels") / "kernel.log", decapsulate=ALL)
    yield program
    program.close()
    pins.remove(directory)


@pytest.mark.parametrize("case", OPENED, ids=lambda case: case.name)
def test_the_flow_is_the_inner_one_with_the_tunnel_beside_it(opening: Program, case: Tunnelled) -> None:
    outcome = opening.run(case.frame)
    assert outcome.returned == UNSPEC
    (event,) = outcome.events
    found, wanted = shown(event), expected(case)
    assert {name: found[name] for name in wanted} == wanted
    assert outcome.counted == {
        "seen_packets": 1, "seen_bytes": len(case.frame), "emitted_packets": 1, "emitted_bytes": len(case.frame),
    }  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_what_cannot_be_opened_is_what_it_is_without(opening: Program, program: Program, name: str) -> None:
    (with_tunnels,), (without,) = opening.run(KEPT[name]).events, program.run(KEPT[name]).events
    kept = {field: value for field, value in shown(without).items() if field not in _OF_THE_RUN}
    assert {field: value for field, value in shown(with_tunnels).items() if field not in _OF_THE_RUN} == kept | NOTHING


@pytest.mark.parametrize("case", OPENED[:20], ids=lambda case: case.name)
def test_a_tunnel_is_a_packet_like_others_unless_it_is_to_be_opened(program: Program, case: Tunnelled) -> None:
    (event,) = program.run(case.frame).events
    assert bytes(event["src"])[-1] == 1
    assert bytes(event["src"]) != expected(case)["src"]
    assert "tunnel_type" not in (event.dtype.names or ())


@pytest.mark.parametrize("case", [case for case in EVENTS if "keeps the outer" not in case.name], ids=lambda c: c.name)
def test_frames_without_a_tunnel_are_what_they_were(opening: Program, program: Program, case: Case) -> None:
    (one,), (other,) = opening.run(case.frame).events, program.run(case.frame).events
    skip = {"ktime_ns", "flow_hash"}
    assert {k: v for k, v in shown(one).items() if k not in skip} == {
        **{k: v for k, v in shown(other).items() if k not in skip}, **NOTHING,
    }  # fmt: skip


@pytest.mark.parametrize("frame", [*NON_IP.values(), *MALFORMED.values()], ids=[*NON_IP, *MALFORMED])
def test_what_is_no_packet_is_counted_as_before(opening: Program, program: Program, frame: bytes) -> None:
    assert opening.run(frame).counted == program.run(frame).counted


def test_each_kind_is_opened_on_its_own(bpffs: Path, tmp_path: Path) -> None:
    cases = {case.kind: case for case in OPENED[:5]}
    assert set(cases) == set(ALL)
    for kind in ALL:
        directory = pins.node_directory(bpffs, f"kernel-test-{kind}")
        program = Program(directory, tmp_path / "kernel.log", decapsulate=(kind,))
        opened = [other for other, case in cases.items() if program.run(case.frame).events["tunnel_type"][0]]
        program.close()
        pins.remove(directory)
        assert opened == [kind]


def test_the_tunnel_is_part_of_the_flow(opening: Program) -> None:
    def hash_of(frame: bytes) -> int:
        return int(opening.run(frame).events[0]["flow_hash"])

    base = next(case.frame for case in OPENED if case.name == "vxlan: IPv4 over IPv4")
    alone = base[50:64] + base[64:]  # the frame in it
    changed = {name: bytearray(base) for name in ("outer source", "outer destination", "VNI", "inner source")}
    for frame, at in zip(changed.values(), (29, 33, 48, 50 + 29), strict=True):
        frame[at] ^= 0x40
    hashes = [hash_of(base), hash_of(alone), *(hash_of(bytes(frame)) for frame in changed.values())]
    assert len(set(hashes)) == len(hashes)
    moved = bytearray(base)
    moved[34] ^= 1  # the outer source port is the tunnel's own choice
    assert hash_of(bytes(moved)) == hashes[0] == hash_of(base)


@pytest.mark.parametrize(("kind", "headers"), [("vxlan", 42 + 8 + 14 + 40), ("gtpu", 42 + 8 + 40)])
def test_each_segment_repeats_the_headers_of_the_tunnel_and_of_what_is_in_it(
    opening: Program, kind: str, headers: int
) -> None:
    frame = next(case.frame for case in OPENED if case.name == f"{kind}: IPv4 over IPv4")
    payload = 2_500
    frame += b"x" * (payload + headers - len(frame))
    (event,) = opening.run(frame, gso_size=1_000, gso_segs=3, wire_len=len(frame)).events
    assert (event["packets"], event["bytes"]) == (3, payload + 3 * headers)
    assert event["segment_bytes"] == 1_000 + headers
