"""Records of columns whose names come from the table of fields. Pure.

`@columnar({name: dtype})` adds a member a column to those that the class declares, and makes it a frozen, slotted,
keyword-only dataclass: `replace`, `fields` and equality of dataclasses serve. To mypy every column is Any.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

C = TypeVar("C")

if TYPE_CHECKING:

    class Columnar:
        """What mypy is told of such a record."""

        __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

        def __init__(self, **members: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...

else:

    class Columnar:
        """Base of the records."""

        __slots__ = ()


def columnar(columns: Mapping[str, Any], *, may_be_empty: Iterable[str] = ()) -> Callable[[type[C]], type[C]]:
    """A decorator. columns: name -> dtype. `may_be_empty`: those that have no values unless they are given."""
    optional = frozenset(may_be_empty)

    def decorate(cls: type[C]) -> type[C]:
        for name, kind in columns.items():
            cls.__annotations__[name] = np.ndarray
            if name in optional:
                setattr(cls, name, field(default_factory=partial(np.zeros, 0, kind)))
        return dataclass(frozen=True, slots=True, kw_only=True)(cls)

    return decorate
