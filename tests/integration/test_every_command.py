"""Every command with standard streams that are closed or full, in a locale without UTF-8: a sentence, no traceback.

Needs chdb and root.
"""

import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.main import cli
from tests.fix_local import REPOSITORY, WRITER
from tests.integration.fix_tables import tables_of
from tests.waiting import HANG_SECONDS

pytestmark = [pytest.mark.root, pytest.mark.clickhouse]
NOBODY = "192.0.2.1:1"  # an address that is not this machine's
DIFFERS, MISUSED, LACKING, BROKEN_PIPE = 1, 2, 3, 141
WRITES = [word for name, value in WRITER.items() for word in ("--set", f"clickhouse.{name}={value}")]
PCAP = struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1)  # a capture of nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """How a command is run so that it ends soon."""

    words: Sequence[str]
    code: int  # when all is well with its streams
    writes: bool = False  # to standard output
    input: bytes = b""  # that it reads


CASES = {
    "up": Case(words=["--data-dir", "/dev/null/x"], code=LACKING),
    "producer": Case(words=["--interface", "no1"], code=MISUSED),
    "streams": Case(words=["--set", f"streams.metrics_listen={NOBODY}"], code=LACKING),
    "console": Case(words=["--set", f"console.listen={NOBODY}"], code=LACKING),
    "kafka": Case(words=["--data-dir", "/dev/null/x"], code=LACKING),
    "clickhouse": Case(words=["--data-dir", "/dev/null/x"], code=LACKING),
    "demo": Case(words=["--set", "log.level=nothing"], code=MISUSED),
    "top": Case(words=["--set", "log.level=nothing"], code=MISUSED),
    "flows": Case(words=["interface != '日本語'", "--since", "1h"], code=0, writes=True),
    "names": Case(words=["domain != '日本語'", "--since", "1h"], code=0, writes=True),
    "report": Case(words=["top_talkers"], code=0, writes=True),
    "query": Case(words=["-"], code=0, writes=True, input="SELECT '日本語' AS s".encode()),
    "repair": Case(words=["--from", "1h", "--to", "2h"], code=MISUSED),
    "rewindow": Case(words=["--from", "2h", "--to", "1h", "--window", "0s"], code=MISUSED),
    "rewindows": Case(words=WRITES, code=0, writes=True),
    "replay": Case(words=["-", "--output", "-", "--format", "csv"], code=0, writes=True, input=PCAP),
    "audit": Case(words=[], code=DIFFERS, writes=True),
    "doctor": Case(words=[], code=DIFFERS, writes=True),
    "schemas": Case(words=["register"], code=MISUSED),
    "kafka-tool": Case(words=["topcis"], code=MISUSED),
    "detach": Case(words=[], code=0, writes=True),
    "hash-token": Case(words=[], code=0, writes=True, input=b"secret\n"),
    "completion": Case(words=["bash"], code=0, writes=True),
    "version": Case(words=[], code=0, writes=True),
}
MANY = [
    name if case.writes or case.input else pytest.param(name, marks=pytest.mark.wide) for name, case in CASES.items()
]
"""Where no stream matters but standard error, one test of a command is enough for `make test`."""
WITHOUT_SETTINGS = {"hash-token", "completion", "version"}


def test_every_command_is_here() -> None:
    assert set(CASES) == set(cli.commands)


@pytest.fixture(scope="module")
def environment(clickhouse_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with tables_of(clickhouse_server) as tables:
        tables.flow(window_begin=int(time.time()) - 600, packets=3)
        yield {name: value for name, value in os.environ.items() if not name.startswith("AYAFLOW_")} | {
            "AYAFLOW_CLICKHOUSE_URL": tables.url,
            "AYAFLOW_CLICKHOUSE_DATABASE": tables.database,
            "AYAFLOW_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
            "AYAFLOW_DATA_DIR": str(tmp_path_factory.mktemp("data")),
        }


def outcome(
    name: str, environment: dict[str, str], *more: str, redirect: str = "", stdout: int = -1
) -> tuple[int, str]:
    """Exit code and standard output of a command, after what all of them must do."""
    case = CASES[name]
    done = subprocess.run(
        ["bash", "-c", f'exec "$@" {redirect}', "bash", sys.executable, "-m", "cli.main", name, *case.words, *more],
        cwd=REPOSITORY,
        env=environment,
        input=case.input,
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
        timeout=HANG_SECONDS,
    )
    said = done.stderr.decode()
    assert not [words for words in ("Traceback", "Exception ignored") if words in said], said
    if done.returncode in {MISUSED, LACKING} and "2>" not in redirect:
        assert "ayaflow: error: " in said
    return done.returncode, (done.stdout or b"").decode()


@pytest.mark.parametrize("name", MANY)
@pytest.mark.parametrize("redirect", [">&-", ">/dev/full"])
def test_standard_output_that_takes_nothing_is_a_sentence(
    environment: dict[str, str], name: str, redirect: str
) -> None:
    case = CASES[name]
    assert outcome(name, environment, redirect=redirect)[0] == (LACKING if case.writes else case.code)


@pytest.mark.parametrize("redirect", [">&- 2>&-", ">/dev/full 2>/dev/full", "<&- >&- 2>&-"])
def test_with_nobody_to_tell_the_exit_code_is_the_same(environment: dict[str, str], redirect: str) -> None:
    assert outcome("version", environment, redirect=redirect)[0] == LACKING


@pytest.mark.parametrize("name", MANY)
def test_standard_input_that_is_closed_is_a_sentence(environment: dict[str, str], name: str) -> None:
    case = CASES[name]
    assert outcome(name, environment, redirect="<&-")[0] == (LACKING if case.input else case.code)


@pytest.mark.parametrize("name", MANY)
def test_a_reader_that_went_is_no_error(environment: dict[str, str], name: str) -> None:
    case = CASES[name]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert outcome(name, environment, stdout=writer)[0] == (BROKEN_PIPE if case.writes else case.code)
    finally:
        os.close(writer)


@pytest.mark.parametrize("name", CASES)
def test_a_locale_without_utf_8_changes_nothing(environment: dict[str, str], tmp_path: Path, name: str) -> None:
    config = tmp_path / "日本語.yaml"
    config.write_text("# 日本語\n", encoding="utf-8")
    more = [] if name in WITHOUT_SETTINGS else ["--config", str(config)]
    code, text = outcome(name, environment | {"LC_ALL": "C", "PYTHONUTF8": "0"}, *more)
    assert code == CASES[name].code
    assert name != "query" or "日本語" in text


@pytest.mark.parametrize("name", ["version", "flows"])
def test_an_argument_that_is_not_utf_8_is_a_sentence(environment: dict[str, str], name: str) -> None:
    assert outcome(name, environment, os.fsdecode(b"--\xff\xfe"))[0] == MISUSED
