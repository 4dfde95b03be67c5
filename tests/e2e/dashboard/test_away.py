"""A console, ClickHouse or Kafka that is away, and a token that is asked for."""

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.browser import opened
from tests.e2e.dashboard.driving import answered, table
from tests.e2e.system import System, processes_of
from tests.fix_local import free_port
from tests.waiting import HANG_SECONDS, until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.kafka,
    pytest.mark.clickhouse,
    pytest.mark.usefixtures("root_and_bcc"),
]


@pytest.mark.wide
def test_a_console_that_dies_is_said_and_the_page_goes_on_when_it_is_back(browser: Browser, system: System) -> None:
    pids = [pid for pid in processes_of(system.data_dir) if is_console(pid)]
    assert len(pids) == 1
    # 503: for the console that has just begun, Kafka may be slow to answer on a busy machine; its health says so
    with opened(browser, expected_errors="WebSocket connection|ERR_CONNECTION|status of 503") as page:
        page.goto(system.console)
        expect(page.locator("#connections tr").first).to_be_visible()
        os.kill(pids[0], signal.SIGKILL)  # `ayaflow up` starts it again
        expect(page.locator("#live-note")).to_contain_text("No live data")
        expect(page.locator("#live-note")).to_contain_text("ayaflow up")
        expect(page.locator("#live-note")).to_be_hidden()
        expect(page.locator("#health-text")).to_have_text("all well")
        before = table(page, "#connections")
        until(lambda: table(page, "#connections") != before)


@contextmanager
def another_console(system: System, **environment: str) -> Iterator[str]:
    """One more console of the same system, with settings of its own -> its address."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "console", "--config", str(system.config)],
        env={**os.environ, "AYAFLOW_CONSOLE_LISTEN": f"127.0.0.1:{port}", **environment},
        stderr=subprocess.DEVNULL,
    )
    try:

        def listens() -> bool:
            assert process.poll() is None, "the console ended"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return True
            return False

        until(listens)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(HANG_SECONDS)


@pytest.mark.wide
def test_a_token_is_asked_for_once_and_opens_everything(browser: Browser, system: System) -> None:
    digest = hashlib.sha256(b"the-token").hexdigest()
    with (
        another_console(system, AYAFLOW_CONSOLE_TOKENS=digest) as address,
        opened(browser, expected_errors=r"401|WebSocket connection|403") as page,
    ):
        page.goto(address)
        expect(page.locator("#token-dialog")).to_be_visible()
        page.locator("#token").fill("the-token")
        page.locator("#token").press("Enter")
        expect(page.locator("#connections tr").first).to_be_visible()
        expect(page.locator("#token-dialog")).to_be_hidden()
        page.goto(address + "/?tab=explore&since=1h&filter=dst_port+%3D+7001")
        answered(page)
        with page.expect_download() as download:
            page.locator("#csv").click()
            expect(page.locator("#explore-note")).to_be_hidden()
        assert download.value.suggested_filename == "flows.csv"
        assert "dst_port" in Path(download.value.path()).read_text()


@pytest.mark.wide
def test_without_clickhouse_the_page_says_so_and_live_goes_on(browser: Browser, system: System) -> None:
    with (
        another_console(system, AYAFLOW_CLICKHOUSE_URL="http://127.0.0.1:1") as address,
        opened(browser, expected_errors="503") as page,
    ):
        page.goto(address + "/?tab=explore")
        expect(page.locator("#explore-note")).to_contain_text("ClickHouse at http://127.0.0.1:1 does not answer")
        expect(page.locator("#banner")).to_contain_text("ayaflow clickhouse")
        expect(page.locator("#health-text")).to_have_text("clickhouse not well")
        page.locator("#tab-audit").click()
        expect(page.locator("#audit-note")).to_contain_text("does not answer")
        page.locator("#tab-live").click()
        expect(page.locator("#connections tr").first).to_be_visible()


@pytest.mark.wide
def test_without_kafka_the_page_says_so_and_history_stays(browser: Browser, system: System) -> None:
    with (
        another_console(system, AYAFLOW_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1") as address,
        opened(browser, expected_errors="503") as page,
    ):
        page.goto(address)
        expect(page.locator("#live-note")).to_contain_text("Live data stands still")
        expect(page.locator("#banner")).to_contain_text("Kafka at 127.0.0.1:1 does not answer")
        page.locator("#tab-explore").click()
        answered(page)


def is_console(pid: int) -> bool:
    """Whether it is the process of `ayaflow console`."""
    return b"console" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
