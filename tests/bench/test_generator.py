"""The generator of the benchmarks."""

import pytest

from tests.bench import generator
from tests.bench.places import pair


@pytest.mark.root
@pytest.mark.usefixtures("root_and_bcc")
def test_the_generator_sends_what_it_says() -> None:
    with pair() as (sender, receiver):
        for family, mix in (("4", "small"), ("6", "mixed"), ("46", "mixed")):
            before = generator.received(receiver)
            sent = generator.send(sender, packets=10_000, flows=100, rate=100_000, mix=mix, family=family)
            assert sent.packets == 10_000 == generator.received(receiver) - before
