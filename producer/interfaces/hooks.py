"""Keeps the program attached to the interfaces that are wanted: those that come, go, or lose their hooks.

Each interface has a slot of the kernel's maps. A slot is set up before the child attaches; when the interface goes,
it is given to another only after all its events and counters have been sent. Nothing here waits.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from common import logs
from common.errors import AyaflowError, EnvironmentProblem
from producer.capture.epochs import Epochs, slots_of
from producer.interfaces.hook import ATTACHED, FAILED, GONE, Hook
from producer.interfaces.observer import Observer
from producer.interfaces.selection import Links, Selection, with_default_route
from producer.interfaces.topology import Place, World, elsewhere
from producer.kernel import child
from producer.kernel.abi import ELSEWHERE, MAX_INTERFACES, NO_ETHERNET, WATCHED

LOOK_NS = 100_000_000  # between two looks at what the kernel says, while it says something
RETRY_NS = 5_000_000_000
ARPHRD_WITHOUT_ETHERNET = {65534, 512, 519, 768, 769, 776}  # NONE (tun, wireguard), PPP, RAWIP, TUNNEL, TUNNEL6, SIT

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


@dataclass(slots=True)
class _Watched:
    slot: int
    name: str
    no_ethernet: bool
    attached: bool = False
    flags: int = 0


class Hooks:
    """All interfaces of a run. Call `step` often."""

    def __init__(
        self,
        *,
        node: str,
        run: int,
        directory: Path,
        adopted: dict[int, str],
        selection: Selection,
        observer: Observer,
        tables: KernelTables,
        epochs: Epochs,
        log_path: Path,
        monotonic: Callable[[], int],
        on_change: Callable[[dict[int, str], tuple[str, ...]], None],
    ) -> None:
        """`run`: the ring's id. `adopted`: names by slot of interfaces that an earlier run has attached to.

        `on_change`: gets names by slot, also of late ones, and the names that are watched now.
        """
        self._run, self._adopted = run, {name: slot for slot, name in adopted.items()}
        self._node, self._directory, self._selection, self._observer = node, directory, selection, observer
        self._tables, self._epochs, self._log_path, self._monotonic = tables, epochs, log_path, monotonic
        self._on_change = on_change
        self._watched: dict[Place, _Watched] = {}
        self._names: dict[int, str] = dict(adopted)
        self._late: dict[int, int] = {}  # slot of an interface that has gone -> the last epoch with something of it
        self._failed: dict[tuple[Place, str], int] = {}  # tried again at
        self._check: set[Place] = set()  # somebody may have removed the hooks
        self._child: child.Running | None = None
        self._world: World | None = None
        self._changed = True
        self._heard_ns = 0
        self.oldest_epoch = 0  # all events of earlier ones have been sent

    @property
    def names(self) -> tuple[str, ...]:
        """Interfaces that the program is attached to."""
        return tuple(sorted(each.name for each in self._watched.values() if each.attached))

    def begin(self) -> None:
        """Attach to all that is there, and wait for it; let go of what is wanted no more.

        Raises AyaflowError when one cannot be attached.
        """
        for place in self._tables.places():  # of an earlier run, which numbered namespaces in its own way
            if place[0]:
                self._tables.unwatch(place)
        self.step()
        if self._child is not None:
            self._finish_child(self._child.wait(), strict=True)
        for place in self._tables.places() - {place for place, each in self._watched.items() if each.attached}:
            self._tables.unwatch(place)
        if self._adopted:
            request = {"node": self._node, "keep": self.names}
            child.run("sweep", request, log=self._log_path)
            for name, slot in self._adopted.items():
                self._tables.set_interface(slot, 0, 0, name)
                self._late[slot] = self._epochs.forget(slots_of(slot, name))
            self._adopted = {}

    def patience(self) -> float:
        """Seconds after which `step` may have something to do, although no descriptor says so."""
        if self._child is not None or self._failed or self._changed or self._check or self._has_just_heard():
            return LOOK_NS / 1e9
        return self._observer.looks_every

    def descriptors(self) -> tuple[int, ...]:
        """Those that can be read when `step` has something to do. None right after news: there may be many more."""
        return () if self._has_just_heard() else self._observer.descriptors()

    def _has_just_heard(self) -> bool:
        return self._world is not None and self._monotonic() - self._heard_ns < LOOK_NS

    def step(self) -> None:
        """Do what is due."""
        now = self._monotonic()
        if self._child is not None and self._child.is_done():
            try:
                self._finish_child(self._child.wait(), strict=False)
            except AyaflowError as error:
                self._child_failed(error, now)
        if self._has_just_heard():
            return
        news = self._observer.poll(now)
        if news.changed or news.unhooked:
            self._heard_ns = now
        self._check |= news.unhooked
        self._changed |= news.changed
        retry = any(when <= now for when in self._failed.values())
        if self._child is None and (self._changed or self._check or retry):
            self._reconcile(now)

    def close(self) -> None:
        """Stop; the hooks stay for `detach`."""
        if self._child is not None:
            self._child.kill()
        self._observer.close()

    def _reconcile(self, now: int) -> None:
        self._changed = False
        world = self._world = self._observer.world()
        names = {place: self._observer.name(place, link) for place, link in world.links.items()}
        for place in [place for place, each in self._watched.items() if names.get(place) != each.name]:
            self._forget(place)
        self._failed = {key: when for key, when in self._failed.items() if names.get(key[0]) == key[1] and when > now}
        automatic = with_default_route(Links.of_this_machine()) if self._selection.auto else []
        new = [
            place
            for place, name in names.items()
            if place not in self._watched
            and (place, name) not in self._failed
            and self._selection.takes(name, automatic, loopback=world.links[place].loopback)
        ]
        for place in new:
            self._add(place, names[place], world)
        self._set_flags(world)
        self._tell()
        lacking = [place for place, each in self._watched.items() if not each.attached or place in self._check]
        self._check.clear()
        if lacking:
            self._start_child(lacking)

    def _add(self, place: Place, name: str, world: World) -> None:
        free = (
            slot
            for slot in range(MAX_INTERFACES)
            if slot not in self._names or self._late.get(slot, self.oldest_epoch) < self.oldest_epoch
        )
        adopted = self._adopted.pop(name, None)
        slot = next(free, None) if adopted is None else adopted
        if slot is None:
            log.warning("too many interfaces; this one is not watched", interface=name, most=MAX_INTERFACES)
            self._failed[place, name] = self._monotonic() + RETRY_NS
            return
        self._late.pop(slot, None)
        self._names[slot] = name
        if adopted is None:
            self._epochs.watch(slots_of(slot, name))
            self._tables.set_interface(slot, 0, 0, name)
        self._watched[place] = _Watched(slot, name, world.links[place].type in ARPHRD_WITHOUT_ETHERNET)

    def _forget(self, place: Place) -> None:
        each = self._watched.pop(place)
        if each.attached:
            self._tables.unwatch(place)
            log.info("interface has gone", interface=each.name)
        self._tables.set_interface(each.slot, 0, 0, each.name)
        self._late[each.slot] = self._epochs.forget(slots_of(each.slot, each.name))

    def _set_flags(self, world: World) -> None:
        """Tell the kernel who is primary. An interface counts as watched when its hooks are there, or will be soon."""
        for place, directions in elsewhere(world, self._watched).items():
            each = self._watched[place]
            flags = WATCHED | (NO_ETHERNET if each.no_ethernet else 0) | directions * ELSEWHERE
            if flags != each.flags:
                each.flags = flags
                self._tables.set_interface(each.slot, flags, place[0], each.name)

    def _tell(self) -> None:
        self._on_change(dict(self._names), self.names)

    def _start_child(self, places: list[Place]) -> None:
        hooks = [
            asdict(
                Hook(
                    slot=self._watched[place].slot,
                    ifindex=place[1],
                    name=self._watched[place].name,
                    namespace=self._observer.path(place[0]),
                )
            )
            for place in places
        ]
        request = {"node": self._node, "run": self._run, "pin_directory": str(self._directory), "hooks": hooks}
        self._child = child.start("hook", request, log=self._log_path)

    def _finish_child(self, answer: child.Answer, *, strict: bool) -> None:
        self._child = None
        places = {each.slot: place for place, each in self._watched.items()}
        for result in answer["hooks"]:
            place = places[result["slot"]]
            each = self._watched[place]
            if result["state"] == FAILED:
                if strict:
                    raise EnvironmentProblem(result["error"])
                self._failed[place, each.name] = self._monotonic() + RETRY_NS
                log.warning("cannot attach; trying again", interface=each.name, error=result["error"])
                self._forget(place)
            elif result["state"] == GONE:
                self._forget(place)
                self._changed = True
            else:
                if result["state"] == ATTACHED:
                    self._say_attached(each)
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

    def _child_failed(self, error: AyaflowError, now: int) -> None:
        """None of what was asked for may have been done."""
        self._child = None
        log.warning("cannot attach; trying again", error=str(error))
        for place in [place for place, each in self._watched.items() if not each.attached]:
            self._failed[place, self._watched[place].name] = now + RETRY_NS
            self._forget(place)
        self._check |= set(self._watched)
