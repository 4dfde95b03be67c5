from console.reports.completeness import Completeness, of

_COUNTED = ("seen", "emitted", "coalesced", "non_ip", "malformed", "unknown_link", "ring_full", "kafka_missing")


def row(unclosed_epochs: int = 0, **packets: int) -> dict[str, int]:
    counted = {f"{name}_packets": packets.get(name, 0) for name in _COUNTED}
    return {**counted, "unclosed_epochs": unclosed_epochs}


def test_a_range_without_a_ledger_has_seen_nothing() -> None:
    assert of([], []) == Completeness()


def test_places_are_added_up() -> None:
    one = row(seen=100, emitted=80, coalesced=10, ring_full=4, non_ip=3, malformed=2, unknown_link=1, kafka_missing=5)
    other = row(seen=7, emitted=7, unclosed_epochs=2)
    assert of([one, other], ["a gap"]) == Completeness(
        seen_packets=107,
        recorded_packets=97,
        coalesced_packets=10,
        dropped_packets=4,
        unread_packets=6,
        unstored_packets=5,
        unclosed_epochs=2,
        losses=1,
    )
