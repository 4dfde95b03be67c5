"""docs/guarantees.md and SECURITY.md name a test for what they promise: each of them exists."""

import ast
import re
from pathlib import Path

import pytest

from tests.unit.test_imports import ROOT, tree

PAGE = ROOT / "docs/guarantees.md"
PAGES = [PAGE, ROOT / "SECURITY.md"]
_NAME = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def functions_of(path: Path) -> set[str]:
    """Names of a module's test functions."""
    return {node.name for node in tree(path).body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("page", PAGES)
def test_each_test_that_is_named_exists(page: Path) -> None:
    named = _NAME.findall(page.read_text())
    assert named
    missing = [f"{path}::{name}" for path, name in named if name not in functions_of(ROOT / path)]
    assert missing == []


@pytest.mark.parametrize("page", PAGES)
def test_each_line_of_the_tables_names_one(page: Path) -> None:
    rows = [line for line in page.read_text().splitlines() if line.startswith("| ") and "shown by" not in line]
    assert rows
    assert [row for row in rows if not _NAME.search(row) and "`make soak`" not in row] == []


def test_every_test_of_the_long_form_is_named() -> None:
    named = {name for _, name in _NAME.findall(PAGE.read_text())}
    modules = (ROOT / "tests/faults").glob("test_*.py")
    there = {name for path in modules for name in functions_of(path) if name.startswith("test_")}
    assert there - named <= {"test_the_senders_totals_are_those_of_its_rules"}
