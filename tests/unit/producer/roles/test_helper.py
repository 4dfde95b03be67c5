"""The helper: what may be asked of it, and what becomes of it. Pins are plain files here, which need no root."""

import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from common.errors import EnvironmentProblem
from producer.kernel import pins
from producer.roles.helper import Helper, serve
from producer.roles.privileged import Privileged
from tests.waiting import until

Ask = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The pins of a node: a run, the links of another one, a run that was set aside."""
    node = tmp_path / "pins/n1"
    for path in (
        "events",
        "hooks-7/3-ingress",
        "hooks-7/3-egress",
        "hooks-7/4-ingress",
        "hooks-8/1-egress",
        "old/5/events",
    ):
        (node / path).parent.mkdir(parents=True, exist_ok=True)
        (node / path).touch()
    return node


@pytest.fixture
def ask(directory: Path, tmp_path: Path) -> Iterator[Ask]:
    """Ask a helper that runs in a thread."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    thread = threading.Thread(target=serve, args=(theirs, Helper(node="n1", directory=directory, logs=tmp_path)))
    thread.start()

    def ask(message: dict[str, Any]) -> dict[str, Any]:
        ours.send(json.dumps(message).encode())
        found: dict[str, Any] = json.loads(ours.recv(1 << 16))
        return found

    yield ask
    ours.close()
    thread.join()
    theirs.close()


@pytest.fixture
def privileged(directory: Path, tmp_path: Path) -> Iterator[Privileged]:
    """One that is a process."""
    with Privileged.begin(node="n1", directory=directory, logs=tmp_path, elsewhere=False) as made:
        yield made


def left(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"do": "load"},
        {"do": "__init__", "node": "n2"},
        {"do": "start", "command": "load", "log": "x"},
        {"do": "start", "command": "hook", "log": "../x"},
        {"do": "start", "command": "hook", "log": "x"},  # without a connection
        {"do": "remove", "what": "everything"},
        {"do": "remove", "what": "aside", "run": "../.."},
        {"do": "remove", "what": "hooks", "run": "7/.."},
        {"do": "remove", "what": "slot", "run": "7", "slot": "../x"},
        {"do": "remove", "what": "files", "run": None, "directory": "/"},
        {"do": "listen", "name": "../../proc/1/ns/net"},
        {"do": "look", "run": "7", "hooks": [{"slot": 1}]},
    ],
    ids=json.dumps,
)
def test_what_is_not_offered_is_refused(ask: Ask, directory: Path, message: dict[str, Any]) -> None:
    before = left(directory)
    assert "fault of ayaflow" in ask(message)["error"]
    assert left(directory) == before
    assert ask({"n": 7, "do": "remove", "what": "slot", "run": "7", "slot": 3}) == {"n": 7}  # it goes on
    assert left(directory) == before - {"hooks-7/3-ingress", "hooks-7/3-egress"}


def test_what_is_no_json_is_refused(directory: Path, tmp_path: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.send(b"\xff{")
        ours.send(b"[1]")
        ours.shutdown(socket.SHUT_WR)
        serve(theirs, Helper(node="n1", directory=directory, logs=tmp_path))
        for _ in range(2):
            assert "fault of ayaflow" in json.loads(ours.recv(1 << 16))["error"]


@pytest.mark.parametrize(
    ("what", "run", "gone"),
    [
        ("hooks", "7", {"hooks-7/3-ingress", "hooks-7/3-egress", "hooks-7/4-ingress"}),
        ("hooks", None, {"hooks-7/3-ingress", "hooks-7/3-egress", "hooks-7/4-ingress", "hooks-8/1-egress"}),
        ("files", None, {"events"}),
        ("aside", "5", {"old/5/events"}),
    ],
)
def test_pins_are_removed(privileged: Privileged, directory: Path, what: str, run: str | None, gone: set[str]) -> None:
    before = left(directory)
    privileged.remove(what, run)
    assert left(directory) == before - gone


def test_all_pins_go_with_the_folder(privileged: Privileged, directory: Path) -> None:
    privileged.remove("all")
    assert not directory.exists()


def test_a_child_takes_node_and_folder_from_the_helper(directory: Path, tmp_path: Path) -> None:
    """Whatever the request will say: these take its place."""
    helper = Helper(node="n1", directory=directory, logs=tmp_path)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = helper.start([theirs.fileno()], "detach", "x.log")["pid"]
        cmdline = Path(f"/proc/{child}/cmdline")  # it waits for its request
        until(lambda: b"producer.child_main" in cmdline.read_bytes(), cmdline.read_text)
        *_, command, only = cmdline.read_bytes().rstrip(b"\0").split(b"\0")
        assert command == b"detach"
        assert json.loads(only) == {"node": "n1", "pin_directory": str(directory)}
        assert helper.poll([], child) == {"code": None}
        helper.kill([], child)
    assert helper.poll([], child) == {"code": 0}  # it is not known any more


def test_the_end_of_the_helper_is_a_sentence(privileged: Privileged) -> None:
    assert privileged.problem is None
    os.kill(privileged.pid, signal.SIGKILL)
    until(lambda: privileged.problem, lambda: "no problem")
    assert "Restart the producer" in str(privileged.problem)
    for call in (
        lambda: privileged.remove("files"),
        lambda: privileged.look("7", []),
        lambda: privileged.start("detach", {}),
    ):
        with pytest.raises(EnvironmentProblem, match="helper that attaches to interfaces has ended"):
            call()
    with pytest.raises(OSError, match="helper that attaches"):
        privileged.listen("blue")


def serving(privileged: Privileged) -> int:
    """The process that answers, a child of the helper's first one."""
    children = Path(f"/proc/{privileged.pid}/task/{privileged.pid}/children")
    return int(until(lambda: children.read_text().split(), children.read_text)[0])


def test_one_that_was_killed_is_started_again(privileged: Privileged, directory: Path) -> None:
    for slot in (3, 4):
        killed = serving(privileged)
        os.kill(killed, signal.SIGKILL)
        privileged.remove("slot", "7", slot)
        assert serving(privileged) != killed
    assert not left(directory) & {"hooks-7/3-ingress", "hooks-7/4-ingress"}
    assert privileged.problem is None


def test_what_one_was_doing_when_it_was_killed_is_done_by_the_next(privileged: Privileged, tmp_path: Path) -> None:
    log = tmp_path / "kernel-n1.detach.log"
    os.mkfifo(log)  # to open it waits for a reader
    privileged.remove("slot", "9", 0)
    first = serving(privileged)
    descriptors = len([*Path(f"/proc/{first}/fd").iterdir()])

    def waits() -> bool:
        has_the_message = len([*Path(f"/proc/{first}/fd").iterdir()]) > descriptors
        return has_the_message and "State:\tS" in Path(f"/proc/{first}/status").read_text()

    def kill() -> None:
        until(waits)
        log.unlink()
        os.kill(first, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    running = privileged.start("detach", {})
    killer.join()
    running.kill()
    assert log.is_file()
    assert serving(privileged) != first
    assert privileged.problem is None


def test_it_ends_with_the_producer_and_not_by_the_signals_that_end_it(privileged: Privileged, directory: Path) -> None:
    privileged.remove("slot", "7", 3)  # it has begun
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(privileged.pid, number)
    privileged.remove("slot", "7", 4)
    assert not left(directory) & {"hooks-7/3-ingress", "hooks-7/4-ingress"}
    privileged.__exit__()
    assert privileged.problem is not None


def test_names_of_pins_are_those_that_attaching_gives_them(directory: Path) -> None:
    assert [path.name for path in pins.slot_pins(directory, "7", 3)] == ["3-ingress", "3-egress"]
