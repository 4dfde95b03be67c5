"""What the kernel tells of interfaces while they come and go, and of names that are no text."""

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator

import pytest

from producer.interfaces.observer import NAMESPACES_NS, Observer
from producer.interfaces.rtnetlink import RouteSocket
from tests.kernel import veth

pytestmark = pytest.mark.root

STAY = 40  # pairs: more than one answer of the kernel holds


@contextlib.contextmanager
def flapping() -> Iterator[None]:
    """An interface that comes and goes all the time."""
    ended = threading.Event()

    def flap() -> None:
        name = f"flap{os.getpid() % 10_000}"
        while not ended.is_set():
            veth.ip("link", "add", name, "type", "veth", "peer", "name", f"{name}b")
            veth.ip("link", "del", name)

    thread = threading.Thread(target=flap)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_while_interfaces_come_and_go_none_that_stays_is_missing_from_a_list() -> None:
    with contextlib.ExitStack() as stack:
        stay = {name for _ in range(STAY) for name in stack.enter_context(veth.pair())}
        route = stack.enter_context(contextlib.closing(RouteSocket.open()))
        stack.enter_context(flapping())
        for _ in range(100):
            listing = route.links()
            assert not listing.whole or stay <= {link.name for link in listing.links}


def test_a_namespace_and_an_interface_whose_names_are_no_text_are_seen() -> None:
    space, name = f"odd{os.getpid()}".encode() + b"\xff", b"e\xfe\\"
    subprocess.run(["ip", "netns", "add", space], check=True)
    try:
        subprocess.run(["ip", "-n", space, "link", "add", name, "type", "veth", "peer", "name", b"p0"], check=True)
        with contextlib.closing(Observer(all_namespaces=True)) as observer:
            assert observer.poll(NAMESPACES_NS).changed
            world = observer.world()
            names = {observer.name(place, link) for place, link in world.links.items()}
            assert f"odd{os.getpid()}\\xff/e\\xfe\\\\" in names
            assert not observer.problems
    finally:
        subprocess.run(["ip", "netns", "del", space], check=True)
