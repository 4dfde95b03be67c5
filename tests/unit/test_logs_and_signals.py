"""Habits of all modules that a reader of logs, or whoever stops a process, relies on."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.test_imports import ROOT, modules, tree

LEVELS = {"debug", "info", "warning", "error"}
PASS_ON = {"common/logs.py", "common/outages.py"}  # they say what they are given


def calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.Call))


def name(function: ast.expr) -> str:
    """`self._log.info` -> `_log.info`: the last two names."""
    return ".".join(ast.unparse(function).split(".")[-2:])


def actions(path: Path) -> Iterator[ast.expr]:
    """What log calls of a module say happened."""
    for call in calls(path):
        receiver, _, method = name(call.func).partition(".")
        if receiver in {"log", "_log"} and method in LEVELS:
            yield call.args[0]
        if method == "away":  # common/outages.py: of a service, an action
            yield call.args[1]


def is_stable(action: ast.expr) -> bool:
    """Whether it is a text of the source, or one of two."""
    if isinstance(action, ast.IfExp):
        return is_stable(action.body) and is_stable(action.orelse)
    return isinstance(action, ast.Constant) and isinstance(action.value, str)


@pytest.mark.parametrize(
    "path",
    [path for path in modules() if str(path.relative_to(ROOT)) not in PASS_ON],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_log_line_can_be_searched_for(path: Path) -> None:
    assert not [f"{action.lineno}: {ast.unparse(action)}" for action in actions(path) if not is_stable(action)]


def test_log_calls_are_found() -> None:
    assert sum(1 for path in modules() for _ in actions(path)) > 50


@pytest.mark.parametrize(
    ("code", "stable"),
    [
        ('"died"', True),
        ('"a" if x else "b"', True),
        ('f"waiting for {x}"', False),
        ("what", False),
        ('"a" if x else y', False),
    ],
)
def test_a_text_that_is_put_together_is_not_stable(code: str, stable: bool) -> None:
    assert is_stable(ast.parse(code, mode="eval").body) is stable


def test_signals_are_handled_in_one_place() -> None:
    handlers = {"signal.signal", "signal.set_wakeup_fd", "loop.add_signal_handler"}
    found = {
        str(path.relative_to(ROOT))
        for path in modules()
        for call in calls(path)
        if name(call.func) in handlers or name(call.func).endswith("add_signal_handler")
    }
    assert found == {"common/stopping.py"}
