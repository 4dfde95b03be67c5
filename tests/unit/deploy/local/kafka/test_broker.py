"""What is said of a broker that ended."""

from pathlib import Path

import pytest

from deploy.local.kafka.broker import _obituary


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("java.io.IOException: No space left on device", "is full: make room"),
        ("java.lang.InternalError: a fault occurred in a recent unsafe memory access operation", "is full: make room"),
        ("meta.properties is inconsistent", "seems damaged"),
        ("something else", "See /logs/kafka-broker.log"),
    ],
)
def test_it_says_why_and_what_to_do(said: str, advice: str) -> None:
    text = _obituary(1, said, Path("/data"), Path("/logs/kafka-broker.log"))
    assert text.startswith(f"Kafka ended with code 1: {said}")
    assert advice in text
