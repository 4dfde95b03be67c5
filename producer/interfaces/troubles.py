"""What is wanted and is not watched, by interface: why, what to do about it, and when it is tried again. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from producer.interfaces.topology import Place

REFUSED, PARTLY, TOO_MANY, UNSEEN = "refused", "partly", "too many", "unseen"
"""The kernel does not take our programs there; or only some; all slots are taken; it cannot be seen which interfaces
there are."""
REASONS = (REFUSED, PARTLY, TOO_MANY, UNSEEN)
RETRY_NS = 5_000_000_000
LONGEST_RETRY_NS = 60_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One, for people."""

    interface: str  # or where interfaces are not seen: NAMESPACE/*
    reason: str  # of REASONS
    error: str  # a sentence: what is wrong, and what to do


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    trouble: Trouble
    wait_ns: int
    again_ns: int


class Troubles:
    """Those of interfaces that are there. What goes, or works, is forgotten."""

    def __init__(self) -> None:
        self._tried: dict[Place, _Tried] = {}

    def add(self, place: Place, trouble: Trouble, now_ns: int) -> None:
        """It could not be watched; each time that happens it is tried again later."""
        before = self._tried.get(place)
        wait = min(2 * before.wait_ns, LONGEST_RETRY_NS) if before else RETRY_NS
        self._tried[place] = _Tried(trouble=trouble, wait_ns=wait, again_ns=now_ns + wait)

    def over(self, place: Place) -> None:
        """It is watched."""
        self._tried.pop(place, None)

    def keep(self, names: Mapping[Place, str]) -> None:
        """Forget all but those of these names."""
        self._tried = {place: each for place, each in self._tried.items() if names.get(place) == each.trouble.interface}

    def holds_back(self, place: Place, now_ns: int) -> bool:
        """Whether it is to be tried again only later."""
        return place in self._tried and self._tried[place].again_ns > now_ns

    def due_in(self, now_ns: int) -> int | None:
        """In how many ns the next is to be tried again; None: there is none."""
        return max(0, min(each.again_ns for each in self._tried.values()) - now_ns) if self._tried else None

    def names(self) -> dict[Place, str]:
        """Of the interfaces."""
        return {place: each.trouble.interface for place, each in self._tried.items()}

    def all(self, others: Iterable[Trouble]) -> tuple[Trouble, ...]:
        """With `others`, by name."""
        return tuple(sorted([*(each.trouble for each in self._tried.values()), *others], key=lambda one: one.interface))


def refused(interface: str, error: str) -> Trouble:
    """The kernel did not take our programs. `error`: the attacher's sentence."""
    return Trouble(
        interface=interface, reason=REFUSED, error=f"{error}. Or leave it out: capture.interfaces '!{interface}'"
    )


def too_many(interface: str, most: int) -> Trouble:
    """All slots are taken."""
    return Trouble(
        interface=interface,
        reason=TOO_MANY,
        error=f"{interface} is not watched: {most} interfaces are, which is the most. "
        "Leave some out: capture.interfaces '!NAME', which takes globs",
    )


def partly(interface: str, lacking: str) -> Trouble:
    """Not all packets pass our programs. `lacking`: the attacher's sentence."""
    return Trouble(interface=interface, reason=PARTLY, error=lacking)


def unseen(where: str, why: str) -> Trouble:
    """It is not known which interfaces there are. `why`: the observer's sentence."""
    return Trouble(interface=where, reason=UNSEEN, error=why)


def by_reason(troubles: Iterable[Trouble]) -> dict[str, int]:
    """How many there are of each."""
    counted = Counter(trouble.reason for trouble in troubles)
    return {reason: counted[reason] for reason in REASONS}
