"""What must not become slow by an accident: ratios of CPU time in one run, with bounds far from what is measured.

docs/benchmarks has the figures. `make bench-smoke` runs this; `make test` does not: other tests beside it are felt.
"""

import pytest

from tests.bench import baselines
from tests.bench.kernel import programs

pytestmark = pytest.mark.speed


@pytest.mark.root
@pytest.mark.usefixtures("root_and_bcc")
def test_the_kernel_program_costs_a_few_empty_ones() -> None:
    with programs() as ours:
        ours.flows(50_000)
        empty = ours.nanoseconds("bench_empty", rounds=15)
        full = {hook: ours.nanoseconds(f"hook_bench_{hook}", rounds=15) for hook in ("ingress", "egress")}
    assert all(each < 12 * empty for each in full.values()), (
        f"{full} ns a packet, an empty program {empty}"
    )  # measured: 4


@pytest.mark.root
@pytest.mark.usefixtures("root_and_bcc")
def test_ring_to_encoded_batches_costs_less_than_an_empty_callback_of_bcc() -> None:
    ours, theirs = baselines.our_cost(), baselines.callback_cost(baselines.empty_callback)
    assert theirs > ours, f"CPU s per M events: ours {ours:.3f}, bcc's callback {theirs:.3f}"  # measured: 3 times


def test_batches_are_encoded_at_a_fraction_of_single_records() -> None:
    single, batched = baselines.record_costs()
    assert single > 15 * batched, (
        f"CPU s per M packets: single {single:.3f}, batches {batched:.3f}"
    )  # measured: 80 times


def test_batches_are_decoded_and_windowed_at_a_fraction_of_single_records() -> None:
    single, batched = baselines.decoding_costs()
    assert single > 15 * batched, f"CPU s per M packets: single {single:.3f}, batches {batched:.3f}"
