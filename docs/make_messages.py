"""Writes docs/asyncapi.json and the tables of docs/topics.md (`make docs`); a test fails when they differ.

They are made of the schemas and the default settings.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from common.settings import ConsoleSettings, KafkaSettings, StreamsSettings
from console.api.asyncapi import document
from console.health import console_url
from schemas.topics import DEAD_LETTER_HEADERS, HOUR_MS, OPERATOR, TopicNames, described

DOCUMENT = Path(__file__).parent / "asyncapi.json"
PAGE = Path(__file__).parent / "topics.md"

_TIMES = {"broker": "the broker's: when it took the message", "event": "the event's"}


def asyncapi() -> str:
    """The document, as `ayaflow schemas asyncapi` prints it."""
    found = document(
        KafkaSettings(), group=StreamsSettings().app_id, registry_url=None, console_url=console_url(ConsoleSettings())
    )
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def page(text: str) -> str:
    """A page with its tables made anew: what stands between `<!-- NAME: … -->` and `<!-- end -->`."""
    for name, table in {"topics": _topics(), "limits": _limits(), "keys": _keys(), "headers": _headers()}.items():
        text, count = re.subn(
            rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- end -->)",
            lambda found: found[1] + table + found[2],  # noqa: B023  called at once
            text,
            flags=re.DOTALL,
        )
        if count != 1:
            raise ValueError(f"the page has {count} places for the table {name!r}")
    return text


def _topics() -> str:
    schemas = {topic: f"`{name}`" for name, topic in TopicNames.of(KafkaSettings().topic_prefix).by_schema().items()}
    rows = (
        (f"`{each.name}`", schemas.get(each.name, "JSON" if OPERATOR in each.name else "the raw message"), each.about)
        for each in described(KafkaSettings())
    )
    return _table(("topic", "value", "for"), rows)


def _limits() -> str:
    rows = (
        (
            f"`{each.name}`",
            str(each.partitions),
            _hours(each.retention_ms / HOUR_MS),
            _mib(each.retention_bytes),
            each.config["cleanup.policy"],
            each.config["compression.type"],
            _mib(int(each.config["max.message.bytes"])),
        )
        for each in described(KafkaSettings())
    )
    head = ("topic", "partitions", "kept for", "of a partition at most", "clean-up", "compression", "largest message")
    return _table(head, rows)


def _keys() -> str:
    rows = (
        (f"`{each.name}`", each.key.about, f"`{each.key.example}`", _TIMES[each.time])
        for each in described(KafkaSettings())
    )
    return _table(("topic", "key", "for instance", "time stamp"), rows)


def _headers() -> str:
    return _table(("header", "is"), ((f"`{name}`", about) for name, about in DEAD_LETTER_HEADERS.items()))


def _hours(hours: float) -> str:
    if hours < 1:
        return f"{hours * 60:g} minutes"
    return f"{hours / 24:g} days" if hours > 24 else f"{hours:g} hours"


def _mib(octets: int) -> str:
    return f"{octets >> 30} GiB" if octets >> 30 else f"{octets >> 20} MiB"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [" | ".join(line) for line in (head, *rows)]
    lines.insert(1, "|".join(["---"] * len(head)))
    return "".join(f"|{line}|\n" if line.startswith("---") else f"| {line} |\n" for line in lines)


if __name__ == "__main__":
    DOCUMENT.write_text(asyncapi(), "utf-8")
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
