"""One `ayaflow up` with real traffic between two namespaces, and Debian's Chromium, for all tests of this folder."""

import subprocess
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.e2e import net
from tests.e2e.browser import chromium, opened
from tests.e2e.dashboard.driving import PACKETS_A_SECOND
from tests.e2e.system import System, ayaflow_up
from tests.fix_local import temporary_directory
from tests.waiting import HANG_SECONDS

FLOWS, SECONDS = 12, 7_200
KEPT = {"storage": {"packets": "30m"}}


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="package")
def network() -> Iterator[net.Network]:
    with net.two_hosts(offloads=False) as hosts:
        yield hosts


@pytest.fixture(scope="package")
def system(browser: Browser, network: net.Network) -> Iterator[System]:
    """With all kinds of traffic stored, packets kept, and small datagrams still passing."""
    a, b = network.a, network.b
    started: list[subprocess.Popen[str]] = []
    with temporary_directory() as directory, ayaflow_up(directory / "data", network.watched, settings=KEPT) as running:
        try:
            server = b.python("traffic", "serve", b.ipv4, b.ipv6)
            started.append(server)
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            client = a.python("traffic", "send", a.ipv4, b.ipv4, a.ipv6, b.ipv6)
            started.append(client)
            assert client.wait(HANG_SECONDS) == 0
            running.wait_until_stored(time.time())
            blast = (a.interface, a.mac, b.mac, a.ipv4, b.ipv4)
            words = (str(PACKETS_A_SECOND * SECONDS), str(PACKETS_A_SECOND), str(FLOWS))
            started.append(a.python("blast", *blast, *words))
            yield running
        finally:
            for process in started:
                process.terminate()
                process.communicate(timeout=HANG_SECONDS)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with opened(browser) as one:
        yield one
