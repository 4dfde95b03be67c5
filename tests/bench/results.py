"""What a benchmark found, on which machine, and how it is shown."""

import datetime as dt
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "benchmarks"
_PACKAGES = ("numpy", "pyarrow", "confluent-kafka", "faust-streaming", "clickhouse-connect", "chdb")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure: a median, or the one measurement of a run."""

    what: str
    value: float
    unit: str
    at_most: float | None = None  # the target
    at_least: float | None = None
    against: str = ""  # the baseline of the same run
    ratio: float | None = None  # value / the baseline's

    @property
    def target(self) -> str:
        if self.at_most is not None:
            return f"≤ {number(self.at_most)}"
        return f"≥ {number(self.at_least)}" if self.at_least is not None else ""

    @property
    def met(self) -> bool | None:
        if self.at_most is not None:
            return self.value <= self.at_most
        return self.value >= self.at_least if self.at_least is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """All figures of a benchmark."""

    name: str
    what: str  # a sentence
    rows: tuple[Row, ...]
    seconds: float  # that it took
    load: tuple[float, float]  # of the machine (processes that want to run), before and after
    machine: dict[str, str] = field(default_factory=dict)

    def json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, path: Path) -> "Result":
        found: dict[str, Any] = json.loads(path.read_text())
        rows = tuple(Row(**row) for row in found.pop("rows"))
        return cls(rows=rows, load=tuple(found.pop("load")), **found)

    def write(self) -> Path:
        FOLDER.mkdir(exist_ok=True)
        path = FOLDER / f"{self.name}.json"
        path.write_text(self.json())
        return path


def number(value: float) -> str:
    """Three significant figures, with thousands."""
    if value == 0 or abs(value) >= 1e15:
        return f"{value:g}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def table(result: Result) -> str:
    """Markdown, which a terminal shows well too."""
    rows = [
        (
            row.what,
            f"{number(row.value)} {row.unit}",
            row.target,
            {None: "", True: "yes", False: "**no**"}[row.met],
            f"{number(row.ratio)} x {row.against}" if row.ratio is not None else "",
        )
        for row in result.rows
    ]
    return markdown(("what", "measured", "target", "met", "in the same run"), rows)


def markdown(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in (heading, *rows)) for i in range(len(heading))]
    lines = [heading, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |" for line in lines
    )


def machine() -> dict[str, str]:
    """What the figures depend on."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "machine": os.environ.get("AYAFLOW_BENCH_MACHINE", platform.node()),
        "cpu": f"{os.cpu_count()} cores, {cpu}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
        "commit": commit.stdout.strip(),
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
