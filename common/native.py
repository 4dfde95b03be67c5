"""C that knows nothing of Python: compiled by pip beside its module, called by ctypes. Without it numpy serves."""

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt


def load(source: Path, name: str, result: Any, arguments: Sequence[Any]) -> Callable[..., Any] | None:
    """The function `name` of FOLDER/_STEM*.so, for the source FOLDER/STEM.c; None when it was not compiled."""
    for path in sorted(source.parent.glob(f"_{source.stem}.*so")):
        try:
            function = getattr(ctypes.CDLL(str(path)), name)
        except (OSError, AttributeError):  # of another machine, or another version
            continue
        function.restype, function.argtypes = result, list(arguments)
        found: Callable[..., Any] = function
        return found
    return None


def address(array: npt.NDArray[Any]) -> int:
    """Of an array's first octet."""
    place: int = array.__array_interface__["data"][0]  # a third of what array.ctypes.data takes
    return place
