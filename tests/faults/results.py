"""What the long form found, kept in docs/benchmarks: faults.json, and the same as tables in faults.md."""

import datetime as dt
import json
import os
import platform
from typing import Any

from tests.bench.results import FOLDER

JSON, TABLE = FOLDER / "faults.json", FOLDER / "faults.md"
_HEAD = """# Fault runs

Made by `make test-faults`; [guarantees](../guarantees.md) says what they show. Each row is the newest run of its kind.
`sent` is what the generator put on the wire; every row ended with the totals of each port equal to it, packets and
bytes, in `flows` and its rollups, and with `ayaflow audit` exact, except where a column says otherwise. Two CPUs are
shared by generator, system under test and whatever else `load` tells of: times and rates suffer from it, totals do not.
"""


def record(group: str, name: str, **figures: Any) -> None:
    """Keep the figures of a run, in the place of the last one of this name."""
    found: dict[str, dict[str, Any]] = json.loads(JSON.read_text()) if JSON.exists() else {}
    when = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M")
    machine = f"{os.cpu_count()} CPUs, Linux {platform.release()}, load {os.getloadavg()[0]:.1f}"
    found.setdefault(group, {})[name] = {**figures, "when": when, "machine": machine}
    FOLDER.mkdir(parents=True, exist_ok=True)
    JSON.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    TABLE.write_text(_text(found))


def _text(groups: dict[str, dict[str, Any]]) -> str:
    parts = [_HEAD]
    for group, rows in groups.items():
        names = list(dict.fromkeys(name for row in rows.values() for name in row if not isinstance(row[name], list)))
        parts.append(f"\n## {group}\n\n| run | {' | '.join(name.replace('_', ' ') for name in names)} |\n")
        parts.append(f"|---|{'---|' * len(names)}\n")
        for key, row in rows.items():
            parts.append(f"| {key} | {' | '.join(_cell(row.get(name, '')) for name in names)} |\n")
    return "".join(parts)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_cell(each)}" for key, each in value.items())
    return f"{value:,}" if isinstance(value, int | float) else str(value)
