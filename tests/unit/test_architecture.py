"""The pages about the code say what the code is."""

import re
import runpy
from pathlib import Path

import pytest

from tests.unit.test_imports import LAYERS, ROOT

DOCS = ROOT / "docs"
OURS = re.compile(rf"`((?:{'|'.join(LAYERS)}|tests|docs)/[\w./-]*)`")
NUMBER = re.compile(r"(?<=[./])N+(?=[._])")  # stands for any: NNNN_name.sql is some …_name.sql
MADE = {"deploy/local/jars"}  # by the set-up, not of the checkout
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
MEASURED = DOCS / "benchmarks"  # results and the places of their day


def test_the_page_of_packages_and_modules_is_that_of_the_code() -> None:
    made = runpy.run_path(str(DOCS / "make_architecture.py"))["page"]()
    assert (DOCS / "architecture.md").read_text() == made, "run: make docs"


def test_every_package_and_module_says_what_it_is_for() -> None:
    purpose = runpy.run_path(str(DOCS / "make_architecture.py"))
    files = [path for paths in purpose["packages"]().values() for path in paths]
    starts = [start for folder in LAYERS for start in (ROOT / folder).rglob("__init__.py")]
    assert [str(path.relative_to(ROOT)) for path in (*files, *starts) if not purpose["purpose"](path)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_path_that_a_page_names_exists(page: Path) -> None:
    if not page.is_relative_to(MEASURED):
        named = {path.rstrip("/") for path in OURS.findall(page.read_text())} - MADE
        assert [
            path for path in sorted(named) if not [*ROOT.glob(NUMBER.sub("*", path).replace("_name.", "_*."))]
        ] == []


def test_internals_says_where_to_change_what_people_come_for() -> None:
    rows = [line for line in (DOCS / "internals.md").read_text().splitlines() if line.startswith("| ")]
    for wanted, path in {
        "operator of filters": "console/query/filters.py",
        "kind of tunnel": "bpf/tunnel.h",
        "another sink": "streams/worker/neighbours.py",
        "a metric": "streams/metrics.py",
        "form of logs": "common/logs.py",
    }.items():
        assert [row for row in rows if wanted in row.split("|")[1] and f"`{path}`" in row], wanted
