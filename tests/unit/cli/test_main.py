"""The command line: help, mistakes, settings, exit codes."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cli.main import GROUPS, cli, main
from cli.options import Flags, common, flags_of, interface, this_node, window
from common.errors import SettingsError

ROOT = Path(__file__).parents[3]
PORT_OF_NOBODY = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AYAFLOW_")]:
        monkeypatch.delenv(name)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(words)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_help_lists_every_command_in_its_group() -> None:
    result = CliRunner().invoke(cli, ["--help"])
    assert result.exit_code == 0
    shown = [line.split()[0] for line in result.output.splitlines() if line.startswith("  ") and line.split()]
    listed = [str(one.name) for _, commands in GROUPS for one in commands]
    assert [name for name in shown if name in listed] == listed
    assert sorted(cli.commands) == sorted(listed)


@pytest.mark.parametrize("name", sorted(set(cli.commands) - {"version"}))
def test_each_command_shows_an_example(name: str) -> None:
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0
    assert "Example" in result.output
    assert f"ayaflow {name}" in result.output


def test_no_command_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys)
    assert (code, err) == (0, "")
    assert "Look:" in out


@pytest.mark.parametrize("words", [("version",), ("--version",)])
def test_the_version_is_a_line(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    code, out, _ = run(capsys, *words)
    assert code == 0
    assert out.startswith("ayaflow ")
    assert out.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("flwos",), "did you mean flows?"),
        (("zzzz",), "the commands are: up, demo, producer"),
        (("flows", "--sinc", "1h"), "did you mean --since?"),
        (("audit", "--format", "csv"), "is not one of 'table', 'json'"),
        (("flows", "--limit", "-1"), "--limit"),
        (("query",), "Missing argument 'SQL'"),
        (("flows", "--since", "soon"), "10m, 2h, 1d"),
        (("audit", "--since", "soon"), "--since 'soon' is not a time"),
        (("audit", "--since", "now", "--until", "1h"), "is not before"),
        (("flows", "dst_prt", "=", "443"), "did you mean dst_port?"),
        (("flows", "--set", "kafka.partition=3"), "did you mean kafka.partitions?"),
        (("--set", "nonsense", "flows"), "section.key=value"),
        (("streams", "--window", "ten"), "streams.window_seconds"),
        (("--config", "/nonexistent.yaml", "flows"), "cannot read the settings file"),
        (("query", " ; "), "does not answer"),
    ],
)
def test_a_mistake_is_one_line_that_helps(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], hint: str
) -> None:
    code, out, err = run(capsys, "--set", f"clickhouse.url=http://{PORT_OF_NOBODY}", *words)
    assert code in {2, 4}
    assert out == ""
    first, *place = err.splitlines()
    assert first.startswith("ayaflow: error: ")
    assert hint in first
    assert place == (["  dst_prt = 443", "  ^"] if "dst_prt" in words else [])


def test_clickhouse_away_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("flows",), ("query", "SELECT 1"), ("audit",)):
        code, out, err = run(capsys, *words, "--set", f"clickhouse.url=http://{PORT_OF_NOBODY}")
        assert (code, out) == (4, "")
        assert err == (
            f"ayaflow: error: ClickHouse at http://{PORT_OF_NOBODY} does not answer (Connection refused); start it with"
            " `ayaflow up` or `ayaflow clickhouse`, or correct clickhouse.url\n"
        )


def test_debug_shows_the_cause(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "flows", "--log-level", "debug", "--set", f"clickhouse.url=http://{PORT_OF_NOBODY}")
    assert code == 4
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("ayaflow: error: ")


def flags_from(*words: str) -> Flags:
    """The flags that a command with every shared option sees."""
    seen: list[Flags] = []

    @click.group()
    @common
    @this_node
    def group() -> None:
        pass

    @group.command()
    @common
    @this_node
    @interface
    @window
    @click.pass_context
    def inner(context: click.Context) -> None:
        seen.append(flags_of(context))

    group.main(list(words), standalone_mode=False)
    return seen[0]


def test_options_work_on_either_side_of_the_command_and_the_later_wins() -> None:
    flags = flags_from(
        "--node",
        "a",
        "--data-dir",
        "/one",
        "--set",
        "kafka.partitions=3",
        "inner",
        "--data-dir",
        "/two",
        "--set",
        "kafka.partitions=5",
        "--set",
        "log.level=debug",
        "--interface",
        "eth0",
        "-i",
        "eth1",
        "--window",
        "30",
    )
    settings = flags.load()
    assert (settings.node, str(settings.data_dir), settings.kafka.partitions) == ("a", "/two", 5)
    assert (settings.log.level, settings.streams.window_seconds) == ("debug", 30)
    assert settings.capture.interfaces == ["eth0", "eth1"]


def test_flags_win_over_environment_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "ayaflow.yaml"
    config.write_text("node: file\nkafka:\n  partitions: 7\nstreams:\n  window_seconds: 20\n")
    monkeypatch.setenv("AYAFLOW_KAFKA_PARTITIONS", "8")
    monkeypatch.setenv("AYAFLOW_NODE", "environment")
    settings = flags_from("--config", str(config), "inner", "--node", "flag").load()
    assert (settings.node, settings.kafka.partitions, settings.streams.window_seconds) == ("flag", 8, 20)


def test_a_setting_out_of_range_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"streams\.window_seconds"):
        flags_from("inner", "--window", "3601").load()


def test_components_are_imported_by_their_own_command_alone() -> None:
    code = (
        "import sys; from cli.main import main; main(['producer', '--help']); "
        "sys.exit(','.join(sorted({'faust', 'clickhouse_connect', 'fastapi', 'rich', 'pandas', 'chdb', 'bcc', 'numpy',"
        " 'confluent_kafka', 'pyarrow', 'aiohttp'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == "\n"
    assert "ayaflow producer --interface eth0" in done.stdout


def test_a_reader_that_goes_away_ends_the_command_quietly() -> None:
    command = f"set -o pipefail; {sys.executable} -m cli.main --help | true; echo $?"
    done = subprocess.run(
        ["bash", "-c", f"yes | head -c 1 >/dev/null; {command}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout.strip() in {"0", "141"}  # 0: all was written before the reader left


def test_on_a_terminal_help_and_errors_are_plain_lines() -> None:
    master, slave = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "flows", "foo ="], cwd=ROOT, stdout=slave, stderr=slave, stdin=slave
        )
        os.close(slave)
        slave = -1
        assert process.wait(120) == 2
        shown = os.read(master, 65_536).decode()
    finally:
        os.close(master)
        if slave >= 0:
            os.close(slave)
    assert shown.startswith("ayaflow: error: filter, column 1: 'foo': expected a field")
    assert shown.splitlines()[1:] == ["  foo =", "  ^"]


def test_an_error_does_nothing_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "flows", "\x1b[31m\u202e = 1")
    assert code == 2
    assert all(line.isprintable() for line in err.splitlines())
    assert "\\x1b" in err
