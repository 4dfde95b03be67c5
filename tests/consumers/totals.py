"""What an engine counted, and whether it is the truth."""

import re
from dataclasses import dataclass

FLOWS, PACKETS = "ayaflow.flows", "ayaflow.packets"
_LINE = re.compile(r"(ayaflow\.\w+): (?:([\d,]+) records, )?([\d,]+) packets, ([\d,]+) bytes\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Of one topic: primary alone, and each record once."""

    packets: int
    bytes: int
    records: int | None = None  # None: not counted

    def equals(self, truth: "Totals") -> bool:
        """Whether they are the same, in all that both have."""
        same = self.records is None or truth.records is None or self.records == truth.records
        return same and (self.packets, self.bytes) == (truth.packets, truth.bytes)

    def __str__(self) -> str:
        records = "" if self.records is None else f"{self.records:,} records, "
        return f"{records}{self.packets:,} packets, {self.bytes:,} bytes"


def said(output: str) -> dict[str, Totals]:
    """By topic, of lines such as `ayaflow.flows: 12 records, 345 packets, 67890 bytes`."""

    def number(text: str) -> int:
        return int(text.replace(",", ""))

    return {
        topic: Totals(records=number(records) if records else None, packets=number(packets), bytes=number(octets))
        for topic, records, packets, octets in _LINE.findall(output)
    }


def contradicted(output: str) -> list[str]:
    """Topics of which different totals are said."""
    found = {topic: set[str]() for topic, *_ in _LINE.findall(output)}
    for topic, *numbers in _LINE.findall(output):
        found[topic].add(" ".join(numbers).replace(",", ""))
    return [topic for topic, totals in found.items() if len(totals) > 1]


def stands_still(output: str, times: int) -> bool:
    """Whether what is said again and again is not nothing and was the same so often in turn, for all topics."""
    by_topic: dict[str, list[tuple[str, ...]]] = {}
    for topic, *numbers in _LINE.findall(output):
        by_topic.setdefault(topic, []).append(tuple(numbers))
    return bool(by_topic) and all(
        len(found) >= times and len(set(found[-times:])) == 1 and found[-1][1] != "0" for found in by_topic.values()
    )
