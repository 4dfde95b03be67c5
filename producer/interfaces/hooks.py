"""Keeps the program attached to the interfaces that are wanted: those that come, go, or lose their hooks.

Each interface has a slot of the kernel's maps. A slot is set up before the child attaches; when the interface goes,
it is given to another only after all its events and counters have been sent. Nothing here waits.

Hooks are looked at, not remembered: all of them every 30 s, and those of an interface when the kernel says that it went
(another may have come in its place, with the same name and ifindex) or that something was attached or removed there.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from common import logs
from common.errors import AyaflowError
from common.outages import Outages
from producer.capture.devices import DeviceCount, Passage
from producer.capture.epochs import Epochs, slots_of
from producer.interfaces.attach.attacher import Attacher, Attaching
from producer.interfaces.attach.hook import ATTACHED, FAILED, GONE, Hook
from producer.interfaces.link_types import counts_what_passes, link_flags
from producer.interfaces.observer import News
from producer.interfaces.rtnetlink import Link, LinkStats
from producer.interfaces.selection import Selection, automatic
from producer.interfaces.topology import Place, World, elsewhere
from producer.interfaces.troubles import RETRY_NS, Trouble, Troubles, partly, refused, too_many, unseen
from producer.kernel.abi import EGRESS, ELSEWHERE, INGRESS, MAX_INTERFACES, UNKNOWN_LINK, WATCHED

LOOK_NS = 100_000_000  # between two looks at what the kernel says, while it says something
SWEEP_NS = 30_000_000_000  # between two times that the kernel is asked for all hooks: not every change is told
SWEPT = 32  # hooks that are looked at in one step

log = logs.get("producer")


class KernelTables(Protocol):
    """What the kernel program knows of interfaces; kernel.maps.PinnedTables is it."""

    def set_interface(self, slot: int, flags: int, namespace: int, name: str) -> None:
        """Set struct interface of a slot."""

    def watch(self, place: Place) -> None:
        """What comes in there is counted there."""

    def unwatch(self, place: Place) -> None:
        """No more."""

    def places(self) -> set[Place]:
        """All that `watch` has named."""


class Observes(Protocol):
    """What interfaces there are; observer.Observer looks."""

    @property
    def looks_every(self) -> float:
        """Seconds between two looks at what no descriptor tells."""

    @property
    def problems(self) -> Mapping[str, str]:
        """Why it is not seen which interfaces there are, by where: sentences."""

    def descriptors(self) -> tuple[int, ...]:
        """Those that can be read when there are news."""

    def poll(self, now_ns: int) -> News:
        """What has happened since the last call. Does not wait."""

    def world(self) -> World:
        """All interfaces now."""

    def name(self, place: Place, link: Link) -> str:
        """The interface's name as it is shown."""

    def stats(self, numbers: Iterable[int]) -> dict[Place, LinkStats]:
        """What the devices of these namespaces have counted, as far as the kernel answers."""

    def path(self, number: int) -> str | None:
        """A file that setns takes; None: our own namespace."""

    def close(self) -> None:
        """Stop listening."""


@dataclass(slots=True)
class _Watched:
    slot: int
    name: str
    link_type: int | None = None  # what its packets begin with; see link_types
    attached: bool = False
    flags: int = 0
    before: tuple[str, ...] = ()  # programs of others that run before ours
    lacking: str = ""  # what is not seen of its packets


class Hooks:
    """All interfaces of a run. Call `step` often."""

    def __init__(
        self,
        *,
        adopted: dict[int, str],
        selection: Selection,
        observer: Observes,
        attacher: Attacher,
        tables: KernelTables,
        epochs: Epochs,
        monotonic: Callable[[], int],
        on_change: Callable[[dict[int, str], tuple[str, ...], tuple[Trouble, ...]], None],
        automatic: Callable[[], list[str]] = automatic,
    ) -> None:
        """`adopted`: names by slot of interfaces that an earlier process has attached to.

        `on_change`: gets names by slot, also of late ones, the names that are watched now, and what is wanted and not
        watched. `automatic`: the interfaces with a default route. `monotonic`: in ns.
        """
        self._adopted = {name: slot for slot, name in adopted.items()}
        self._selection, self._observer, self._attacher, self._automatic = selection, observer, attacher, automatic
        self._tables, self._epochs, self._monotonic, self._on_change = tables, epochs, monotonic, on_change
        self._watched: dict[Place, _Watched] = {}
        self._names: dict[int, str] = dict(adopted)
        self._late: dict[int, int] = {}  # slot of an interface that has gone -> the last epoch with something of it
        self._troubles = Troubles()
        self._outages = Outages(log, lambda: monotonic() / 1e9)
        self._look: set[Place] = set()  # the hooks may not be there any more
        self._swept_ns = monotonic()
        self._check: set[Place] = set()  # they are not
        self._attaching: Attaching | None = None
        self._failed = False  # attaching as a whole, the last time
        self._held_until_ns = 0  # it is not tried again before
        self._world: World | None = None
        self._changed = True
        self._heard_ns = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Interfaces that the program is attached to."""
        return tuple(sorted(each.name for each in self._watched.values() if each.attached))

    @property
    def unknown_links(self) -> tuple[str, ...]:
        """Of these, those whose packets are counted only, since nobody knows what they begin with."""
        unknown = (each for each in self._watched.values() if each.flags & UNKNOWN_LINK)
        return tuple(sorted(f"{each.name} (link type {each.link_type})" for each in unknown))

    def device_counts(self) -> dict[Passage, DeviceCount]:
        """What the devices' own counters say, of those that are watched, and of those that are to be and cannot be."""
        links = self._world.links if self._world else {}
        names = {place: each.name for place, each in self._watched.items() if each.attached} | self._troubles.names()
        names = {
            place: name for place, name in names.items() if place in links and counts_what_passes(links[place].kind)
        }
        found = {}
        for place, stats in self._observer.stats({place[0] for place in names}).items():
            if name := names.get(place):
                found[name, INGRESS] = DeviceCount(stats.rx_packets, stats.rx_bytes)
                found[name, EGRESS] = DeviceCount(stats.tx_packets, stats.tx_bytes)
        return found

    def begin(self) -> None:
        """Attach to all that is there and can be attached to, and wait for it; let go of what is wanted no more."""
        for place in self._tables.places():  # of an earlier run, which numbered namespaces in its own way
            if place[0]:
                self._tables.unwatch(place)
        self.step()
        self._finish_attaching()
        for place in self._tables.places() - {place for place, each in self._watched.items() if each.attached}:
            self._tables.unwatch(place)
        if self._adopted:
            try:
                self._attacher.detach_others(self.names)
            except AyaflowError as error:  # they count nothing any more; at our end they are removed
                log.warning("cannot detach from what is not wanted any more", error=str(error))
            for name, slot in self._adopted.items():
                self._tables.set_interface(slot, 0, 0, name)
                self._attacher.release(slot)
                self._late[slot] = self._epochs.forget(slots_of(slot, name))
            self._adopted = {}

    def patience(self) -> float:
        """Seconds after which `step` may have something to do, although no descriptor says so."""
        if self._attaching or self._changed or self._look or self._check or self._has_just_heard():
            return LOOK_NS / 1e9
        due = self._troubles.due_in(self._monotonic())
        return min(self._observer.looks_every, (SWEEP_NS if due is None else min(due, SWEEP_NS)) / 1e9)

    def descriptors(self) -> tuple[int, ...]:
        """Those that can be read when `step` has something to do. None right after news: there may be many more."""
        return () if self._has_just_heard() else self._observer.descriptors()

    def _has_just_heard(self) -> bool:
        return self._world is not None and self._monotonic() - self._heard_ns < LOOK_NS

    def step(self) -> None:
        """Do what is due."""
        now = self._monotonic()
        if self._attaching is not None and self._attaching.is_done():
            self._finish_attaching()
        self._forget_late()
        if self._has_just_heard():
            return
        news = self._observer.poll(now)
        if news.changed or news.unhooked:
            self._heard_ns = now
        self._look |= news.unhooked
        self._changed |= news.changed
        if not self._changed:  # else the world first: a namespace may have gone
            self._look_at_hooks(now)
        if now < self._held_until_ns:
            return
        if self._attaching is None and (self._changed or self._check or self._troubles.due_in(now) == 0):
            self._reconcile(now)

    def close(self) -> None:
        """Stop; the hooks stay for `detach`."""
        if self._attaching is not None:
            self._attaching.kill()
        self._observer.close()

    def _reconcile(self, now: int) -> None:
        self._changed = False
        world = self._world = self._observer.world()
        names = {place: self._observer.name(place, link) for place, link in world.links.items()}
        for place in [place for place, each in self._watched.items() if names.get(place) != each.name]:
            if self._watched[place].attached:
                log.info("interface has gone", interface=self._watched[place].name)
            self._epochs.devices.forget(self._watched[place].name)
            self._forget(place)
        automatic = self._automatic() if self._selection.auto else []
        wanted = {
            place: name
            for place, name in names.items()
            if self._selection.takes(name, automatic, loopback=world.links[place].loopback)
        }
        self._troubles.keep(wanted)
        for place, name in wanted.items():
            if place not in self._watched and not self._troubles.holds_back(place, now):
                self._add(place, name, world, now)
        self._set_flags(world)
        self._tell()
        lacking = [place for place, each in self._watched.items() if not each.attached or place in self._check]
        self._check.clear()
        if lacking:
            try:
                self._attaching = self._attacher.attach([self._hook(place) for place in lacking])
            except AyaflowError as error:
                self._attaching_failed(error)

    def _look_at_hooks(self, now: int) -> None:
        """At some of those that are due; the others have their turn in the next steps."""
        if now - self._swept_ns >= SWEEP_NS:
            self._swept_ns = now
            self._look |= set(self._watched)
        self._look &= set(self._watched)
        due = [place for place in self._look if self._watched[place].attached][:SWEPT]
        self._look -= set(due)
        some = {self._watched[place].slot: place for place in due}
        for slot, seen in self._attacher.look(self._hook(place) for place in due).items() if due else ():
            if not seen.in_place:
                self._check.add(some[slot])
            elif seen.before != (each := self._watched[some[slot]]).before:
                each.before = seen.before
                if seen.before:
                    log.warning(
                        "another program runs before ours: packets that it keeps are not seen",
                        interface=each.name,
                        programs=", ".join(seen.before),
                    )

    def _add(self, place: Place, name: str, world: World, now: int) -> None:
        free = (slot for slot in range(MAX_INTERFACES) if slot not in self._names)
        adopted = self._adopted.pop(name, None)
        slot = next(free, None) if adopted is None else adopted
        if slot is None:
            self._troubles.add(place, too_many(name, MAX_INTERFACES), now)
            return
        self._names[slot] = name
        if adopted is None:
            self._epochs.watch(slots_of(slot, name))
            self._tables.set_interface(slot, 0, 0, name)
        self._watched[place] = _Watched(slot, name)

    def _forget(self, place: Place) -> None:
        each = self._watched.pop(place)
        if each.attached:
            self._tables.unwatch(place)
        self._tables.set_interface(each.slot, 0, 0, each.name)
        self._attacher.release(each.slot)
        self._late[each.slot] = self._epochs.forget(slots_of(each.slot, each.name))

    def _forget_late(self) -> None:
        """Interfaces that have gone, when all their events and counters have been sent."""
        stored = self._epochs.stored
        slots = [slot for slot, last in self._late.items() if last <= stored]
        for slot in slots:
            del self._late[slot], self._names[slot]
            self._tables.set_interface(slot, 0, 0, "")
        if slots:
            self._tell()

    def _set_flags(self, world: World) -> None:
        """Tell the kernel who is primary. An interface counts as watched when its hooks are there, or will be soon."""
        for place, directions in elsewhere(world, self._watched).items():
            each = self._watched[place]
            self._learn_type(each, world.links[place].type)
            flags = WATCHED | link_flags(world.links[place].type) | directions * ELSEWHERE
            if flags != each.flags:
                each.flags = flags
                self._tables.set_interface(each.slot, flags, place[0], each.name)

    def _learn_type(self, each: _Watched, link_type: int) -> None:
        if link_type != each.link_type and link_flags(link_type) == UNKNOWN_LINK:
            log.warning(
                "what its packets begin with is not known: they are counted, not recorded",
                interface=each.name,
                link_type=link_type,
            )
        each.link_type = link_type

    def _tell(self) -> None:
        half = [partly(each.name, each.lacking) for each in self._watched.values() if each.lacking]
        troubles = self._troubles.all([*half, *(unseen(*each) for each in self._observer.problems.items())])
        if troubles:
            self._outages.away(
                "interfaces",
                "not all that is wanted is watched; trying again",
                kind=",".join(sorted({trouble.reason for trouble in troubles})),
                interfaces=len(troubles),
                first=troubles[0].interface,
                error=troubles[0].error,
            )
        else:
            self._outages.back("interfaces")
        self._on_change(dict(self._names), self.names, troubles)

    def _hook(self, place: Place) -> Hook:
        each = self._watched[place]
        return Hook(slot=each.slot, ifindex=place[1], name=each.name, namespace=self._observer.path(place[0]))

    def _finish_attaching(self) -> None:
        """See what became of it; wait for it, if need be."""
        if self._attaching is None:
            return
        try:
            outcomes = self._attaching.wait()
        except AyaflowError as error:
            self._attaching_failed(error)
            return
        self._attaching, self._failed = None, False
        places = {each.slot: place for place, each in self._watched.items()}
        for outcome in outcomes:
            place = places[outcome.slot]
            each = self._watched[place]
            if outcome.state == FAILED:
                self._troubles.add(place, refused(each.name, outcome.error), self._monotonic())
                self._forget(place)
            elif outcome.state == GONE:
                self._epochs.devices.forget(each.name)
                self._forget(place)
                self._changed = True
            else:
                if outcome.state == ATTACHED:
                    self._say_attached(each)
                each.lacking = outcome.error
                self._troubles.over(place)
                if not each.attached:
                    each.attached = True
                    self._tables.watch(place)
        if self._world is not None:
            self._set_flags(self._world)
        self._tell()

    def _say_attached(self, each: _Watched) -> None:
        if each.attached:
            log.warning("somebody removed our hooks; they are back", interface=each.name)
        else:
            log.info("attached", interface=each.name)

    def _attaching_failed(self, error: AyaflowError) -> None:
        """None of what was asked for may have been done. Hooks that somebody removed are looked after at once, once."""
        self._attaching = None
        self._held_until_ns = self._monotonic() + RETRY_NS * self._failed
        self._failed = True
        for place in [place for place, each in self._watched.items() if not each.attached]:
            self._troubles.add(place, refused(self._watched[place].name, str(error)), self._monotonic())
            self._forget(place)
        self._check |= set(self._watched)
        self._tell()
