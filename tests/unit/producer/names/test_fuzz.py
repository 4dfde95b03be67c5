"""The short form of `make fuzz`: what each parser does with messages that were changed, not how long it takes."""

import pytest

from tests.names.fuzz import PYTHON, SANITIZED, check, in_c, in_python


@pytest.mark.parametrize("parser", ["dns", "hello"])
def test_c_under_sanitizers(parser: str) -> None:
    check(parser, in_c(parser, 30_000, 1, SANITIZED))


@pytest.mark.parametrize("name", PYTHON)
def test_python(name: str) -> None:
    check(name, in_python(PYTHON[name](1), 3_000))
