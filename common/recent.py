"""What is remembered by name, bounded: what was used last is kept, what was not used for longest goes first. Pure.

Names come from others: interfaces of containers, nodes, rings, texts of errors. Nobody says when one is done with, and
anybody can make up new ones.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """A mapping of at most so many keys, in the order of their last use. Not safe for two threads at once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[K, V] = OrderedDict()

    def use(self, key: K, value: V) -> list[tuple[K, V]]:
        """Set it, as the last that was used. Returns what is forgotten for it."""
        self._values[key] = value
        self._values.move_to_end(key)
        return [self._values.popitem(last=False) for _ in range(len(self._values) - self._most)]

    def get(self, key: K) -> V | None:
        """Its value; that is no use."""
        return self._values.get(key)

    def forget(self, key: K) -> V | None:
        """Drop it; what it was."""
        return self._values.pop(key, None)

    def oldest(self) -> tuple[K, V] | None:
        """What was not used for longest."""
        return next(iter(self._values.items()), None)

    def newest_first(self) -> Iterator[tuple[K, V]]:
        """All of it."""
        return reversed(self._values.items())

    def items(self) -> list[tuple[K, V]]:
        """All of it, those that were not used for longest first; it may be changed meanwhile."""
        return list(self._values.items())

    def __len__(self) -> int:
        return len(self._values)
