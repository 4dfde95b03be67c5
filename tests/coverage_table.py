"""Prints what `make coverage` measured, a line a package, the least covered modules of each beside it."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from coverage import Coverage

ROOT = Path(__file__).parent.parent
LEAST = 3  # modules named beside their package


def measured() -> dict[str, dict[str, Any]]:
    """Module's path -> coverage's summary of it."""
    report = ROOT / ".coverage-data/report.json"
    coverage = Coverage(config_file=str(ROOT / "pyproject.toml"))
    coverage.load()
    coverage.json_report(outfile=str(report))
    return {name: file["summary"] for name, file in json.loads(report.read_text())["files"].items()}


def share(summaries: list[dict[str, Any]]) -> tuple[int, int, int, int]:
    """(statements that ran, statements, branches that were taken, branches)."""
    names = ("covered_lines", "num_statements", "covered_branches", "num_branches")
    counts = [sum(summary[name] for summary in summaries) for name in names]
    return counts[0], counts[1], counts[2], counts[3]


def of(part: int, whole: int) -> str:
    """`93 % of 440`; empty of nothing."""
    return f"{100 * part / whole:.0f} % of {whole}" if whole else ""


def table(files: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    packages = defaultdict(list)
    for name in (name for name, summary in files.items() if summary["num_statements"]):
        packages[str(Path(name).parent)].append(name)
    lines = ["| package | statements | branches | least covered |", "|---|---|---|---|"]
    for package in [*sorted(packages), "all"]:
        names = packages[package] if package in packages else list(files)
        ran, statements, taken, branches = share([files[name] for name in names])
        partial = [name for name in names if files[name]["percent_covered"] < 100 and package in packages]
        least = sorted(partial, key=lambda name: float(files[name]["percent_covered"]))[:LEAST]
        shown = ", ".join(f"{Path(name).stem} {files[name]['percent_covered']:.0f} %" for name in least)
        lines.append(f"| {package} | {of(ran, statements)} | {of(taken, branches)} | {shown} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(measured()))
