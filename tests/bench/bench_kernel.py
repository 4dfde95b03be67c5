"""Nanoseconds a packet of the kernel program above an empty one: by TEST_RUN, and by BPF statistics on a veth.

TEST_RUN is steady and says what the instructions cost; the interface says what a packet costs whose headers the
generator has just written, as in shared/FIELD.md's figures of the peers.
"""

from collections.abc import Iterator

from tests.bench import generator
from tests.bench.kernel import DETAILS, Programs, bpf_statistics, programs
from tests.bench.places import pair
from tests.bench.results import Row

FLOWS = {4: "4 flows", 50_000: "50 k flows"}
TARGETS = {("packet", 4): 80, ("packet", 50_000): 110, ("flow", 4): 90, ("flow", 50_000): 250}
PACKETS = 500_000


def run() -> Iterator[Row]:
    with programs() as ours:
        yield from _test_runs(ours)
        with pair() as (sender, watched), bpf_statistics():
            yield from _on_a_wire(ours, sender, watched)


def _test_runs(ours: Programs) -> Iterator[Row]:
    ours.flows(4)
    nothing = ours.nanoseconds("bench_nothing")
    yield Row(what="empty program", value=nothing, unit="ns")
    for detail in DETAILS:
        ours.watch(0, detail)
        for flows, label in FLOWS.items():
            for hook in ("ingress", "egress"):
                ours.flows(flows)
                empty, full = ours.nanoseconds("bench_empty"), ours.nanoseconds(f"hook_bench_{hook}")
                yield Row(
                    what=f"detail: {detail}, {hook}, {label}, above empty",
                    value=full - empty,
                    unit="ns",
                    at_most=TARGETS[detail, flows],
                    against="empty",
                    ratio=(full - empty) / nothing,
                )


def _on_a_wire(ours: Programs, sender: str, watched: str) -> Iterator[Row]:
    empty = _measured(ours, "bench_nothing", sender, watched, 4)
    yield Row(what="on a veth: empty program", value=empty, unit="ns")
    for detail in DETAILS:
        ours.watch(0, detail)
        for flows, label in FLOWS.items():
            full = _measured(ours, "hook_ayaflow_ingress", sender, watched, flows)
            yield Row(
                what=f"on a veth: detail: {detail}, ingress, {label}, above empty",
                value=full - empty,
                unit="ns",
                against="empty",
                ratio=(full - empty) / empty,
            )


def _measured(ours: Programs, name: str, sender: str, watched: str, flows: int) -> float:
    """Mean of a packet while the generator sends."""
    with ours.attached(name, watched):
        time_before, runs_before = ours.statistics(name)
        generator.send(sender, packets=PACKETS, flows=flows, rate=300_000)
        time_after, runs_after = ours.statistics(name)
    ours.release()
    return (time_after - time_before) / (runs_after - runs_before)
