"""Packages that a library loads as soon as they are installed, and that nothing of ours uses."""

import contextlib
import sys
from collections.abc import Iterator
from importlib.abc import MetaPathFinder

_PACKAGES = {"pandas"}  # chDB brings it, and pyarrow asks for it at its first array: 0.4 s of CPU and 45 MB a process


class _Absent(MetaPathFinder):
    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname in _PACKAGES:
            raise ModuleNotFoundError(f"{fullname} is left out of this process (cli/unused.py)", name=fullname)


_absent = _Absent()


@contextlib.contextmanager
def left_out() -> Iterator[None]:
    """None can be imported until the end of the block: libraries do without them, as where they are not installed."""
    sys.meta_path.insert(0, _absent)
    try:
        yield
    finally:
        let_in()


def let_in() -> None:
    """From now on they can be: code that is not ours may use them."""
    with contextlib.suppress(ValueError):
        sys.meta_path.remove(_absent)
