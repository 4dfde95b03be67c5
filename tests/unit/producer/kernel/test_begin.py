"""A run begins: what is pinned is gone on with when it is ours, set aside when it is another version's, else loaded."""

import mmap
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.settings import CaptureSettings
from producer.kernel import pins
from producer.kernel.begin import Begun, begin
from producer.kernel.testing import MemoryCall, open_file

CAPTURE = CaptureSettings(ring_bytes=1 << 16)
OTHER = CaptureSettings(ring_bytes=1 << 17)


@pytest.fixture
def call() -> MemoryCall:
    return MemoryCall()


class Starts:
    """Producers of one node, one after the other."""

    def __init__(self, directory: Path, call: MemoryCall) -> None:
        self.directory, self._call = directory, call
        self.begun: list[Begun] = []

    def __call__(self, capture: CaptureSettings = CAPTURE) -> Begun:
        begun = begin(capture, directory=self.directory, logs=self.directory, call=self._call, open_pin=open_file)
        self.begun.append(begun)
        return begun

    def asked(self) -> list[str]:
        asked, self._call.asked = self._call.asked, []
        return [command for command, _ in asked]


@pytest.fixture
def start(tmp_path: Path, call: MemoryCall) -> Iterator[Starts]:
    directory = tmp_path / "ayaflow" / "n~one"
    directory.mkdir(parents=True)
    starts = Starts(directory, call)
    yield starts
    for begun in starts.begun:
        begun.close()


def test_where_nothing_is_pinned_a_program_is_loaded(start: Starts, call: MemoryCall) -> None:
    begun = start()
    assert (begun.adopted, begun.old) == (False, ())
    assert begun.kernel.state.open == 1
    assert begun.kernel.state.of(1, "opened_ns") == 7
    assert begun.kernel.ring.size == CAPTURE.ring_bytes
    assert call.asked[0] == ("detach", {"node": "n.one"})
    assert call.asked[1][0] == "load"
    assert call.asked[1][1]["ring_pages"] == CAPTURE.ring_bytes // mmap.PAGESIZE


def test_a_run_of_ours_is_gone_on_with(start: Starts) -> None:
    first = start()
    ring_id = first.kernel.state.ring_id
    first.kernel.state.stored = 5
    start.asked()
    begun = start()
    assert (begun.adopted, begun.old) == (True, ())
    assert (begun.kernel.state.ring_id, begun.kernel.state.stored) == (ring_id, 5)
    assert not start.asked()


def test_another_version_s_is_set_aside_and_its_hooks_stay_until_ours_are_there(start: Starts) -> None:
    old = start().kernel.state.ring_id
    start.asked()
    begun = start(OTHER)
    assert not begun.adopted
    assert [run.state.ring_id for run in begun.old] == [old]
    assert begun.old[0].ring.size == CAPTURE.ring_bytes
    assert begun.kernel.ring.size == OTHER.ring_bytes
    assert start.asked() == ["load"]


def test_what_was_set_aside_is_found_again_by_the_next(start: Starts) -> None:
    old = start().kernel.state.ring_id
    new = start(OTHER).kernel.state.ring_id
    begun = start(OTHER)
    assert begun.adopted
    assert begun.kernel.state.ring_id == new
    assert [run.state.ring_id for run in begun.old] == [old]


def test_links_stay_as_long_as_an_earlier_run_is_needed(start: Starts) -> None:
    folder = pins.hooks_directory(start.directory, str(start().kernel.state.ring_id))
    folder.mkdir()
    (folder / "0-ingress").touch()
    start()
    start(OTHER)
    assert [path.name for path in folder.iterdir()] == ["0-ingress"]


def test_links_of_a_run_that_cannot_be_gone_on_with_are_let_go(start: Starts) -> None:
    folder = pins.hooks_directory(start.directory, "5")
    folder.mkdir()
    (folder / "0-ingress").touch()
    start()
    assert not folder.exists()


def test_one_that_was_killed_while_it_loaded_is_loaded_again(start: Starts) -> None:
    start()
    (start.directory / "state").write_bytes(bytes(8192))  # no layout: nothing was attached
    start.asked()
    begun = start()
    assert not begun.adopted
    assert start.asked() == ["detach", "load"]


def test_one_that_was_killed_while_it_pinned_is_loaded_again(start: Starts) -> None:
    start()
    (start.directory / "interfaces").unlink()
    start.asked()
    assert not start().adopted
    assert start.asked() == ["detach", "load"]
