"""The compiled parsers of this package: without them nothing is inspected."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.errors import EnvironmentProblem
from common.native import load


def required(stem: str, name: str, result: Any, arguments: list[Any]) -> Callable[..., Any]:
    """The function `name` of STEM.c in this folder. Raises EnvironmentProblem when it was not compiled."""
    found = load(Path(__file__).with_name(f"{stem}.c"), name, result, arguments)
    if found is None:
        raise EnvironmentProblem(
            f"capture.inspect needs the compiled parser {stem}.c, which is missing or of another version:"
            " install gcc and then ayaflow again, or leave capture.inspect off"
        )
    return found
