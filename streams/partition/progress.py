"""How far a partition's offsets may be acknowledged. Pure."""

from collections.abc import Iterable, Mapping


def committable(position: int, needed: Iterable[int], spans: Mapping[int, int]) -> int:
    """The offset from which a successor must read.

    `position` is the next offset to be consumed, `needed` the offsets that are not stored completely. `spans` maps a
    message to the last one that can only be understood after it (see streams.partition.rings): a successor must not
    begin between the two, so that either all of first < offset <= last are acknowledged or the first is not.
    """
    result = min(needed, default=position)
    moved = True
    while moved:
        moved = False
        for first, last in spans.items():
            if first < result <= last:
                result, moved = first, True
    return result
