"""The page for people who come from ayaFlow names all that it had, and nothing of ours that does not exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cli.main import cli
from common import settings as settings_module
from common.errors import SettingsError
from common.settings import KafkaSettings, LiveSettings, environment_name, setting_names
from console import app
from console.live.hub import LiveHub
from console.query.vocabulary import FIELDS
from tests.ship.confined import CAPABILITIES

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "coming-from-ayaflow.md").read_text()
OPTIONS = {
    "--interface",
    "--port",
    "--db-path",
    "--connection-timeout",
    "--data-retention",
    "--aggregation-window",
    "--allowed-ips",
    "--config",
    "--quiet",
    "--deep-inspect",
    "--enable-ipv6",
    "--resolve-dns",
}
ENVIRONMENT = {f"AYAFLOW_{flag[2:].replace('-', '_').upper()}" for flag in OPTIONS} - {"AYAFLOW_ENABLE_IPV6"}
ENDPOINTS = {"/api/health", "/api/stats", "/api/live", "/api/history", "/api/stream", "/metrics"}
METRICS = {
    f"ayaflow_{name}"
    for name in (
        "packets_total",
        "bytes_total",
        "active_connections",
        "domains_resolved_total",
        "deep_inspect_packets_total",
    )
}


def rows() -> Iterator[tuple[str, list[str]]]:
    """What ayaFlow had (first cell), and the names of ours in the second."""
    for line in PAGE.splitlines():
        if line.startswith("|") and not line.startswith(("|---", "| ayaFlow |")):
            cells = line.strip("|").split(" | ")
            yield cells[0], re.findall(r"`([^`]+)`", cells[1])


def flags() -> set[str]:
    return {
        option
        for command in (cli, *cli.commands.values())
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
    }


APP = app.build_app(settings_module.load(flags={"kafka.bootstrap_servers": "127.0.0.1:1"}))
PATHS = APP.openapi()["paths"]
LISTED = set(re.findall(r"^\| `(ayaflow_\w+)`", (DOCS / "metrics.md").read_text(), re.MULTILINE))  # held to the code
ROUTES = {*PATHS, "/", "/api/stream"}


def exists(name: str) -> bool:
    if name.startswith("--"):
        return name in flags()
    if name.startswith("AYAFLOW_"):
        return name == settings_module.CONFIG_ENV or name in map(environment_name, setting_names())
    if name.startswith("/"):
        path, _, query = name.partition("?")
        parameters = {one["name"] for one in PATHS.get(path, {}).get("get", {}).get("parameters", ())}
        return path in ROUTES and {part.partition("=")[0] for part in query.split("&") if part} <= parameters
    if name.startswith("ayaflow_"):
        return name in LISTED
    if "/" in name:
        return (DOCS.parent / name).exists()
    if name.lower() in CAPABILITIES:
        return True
    return name in setting_names()


def test_all_that_ayaflow_had_is_on_the_page() -> None:
    named = {name for first, _ in rows() for name in re.findall(r"`([^`]+)`", first)}
    assert named >= OPTIONS | ENVIRONMENT | ENDPOINTS | METRICS


@pytest.mark.parametrize("name", sorted({name for _, names in rows() for name in names}))
def test_every_name_of_ours_exists(name: str) -> None:
    assert exists(name), name


def test_each_way_of_running_it_has_a_test() -> None:
    deployed = re.findall(r"^## (?:Running it|Deployment)\n(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)
    lines = [line for part in deployed for line in part.splitlines() if line.startswith("|") and "---" not in line]
    assert len(lines) == 2 + 5 + 3
    for line in lines:
        if not line.startswith("| ayaFlow |"):
            tests = re.findall(r"`(tests/[^`]*)`", line.strip("| ").split(" | ")[3])
            assert tests, line
            assert all((DOCS.parent / name).is_file() for name in tests), line


def test_names_in_the_text_exist() -> None:
    for command in re.findall(r"`ayaflow ([a-z-]+)", PAGE):
        assert command in cli.commands, command
    for setting in re.findall(r"`([a-z]+\.[a-z_]+)`", PAGE):
        assert setting in setting_names() or setting == "traffic.db", setting
    for flag in re.findall(r"`(--[a-z0-9-]+)", PAGE):
        assert flag in flags() | OPTIONS, flag
    words = set(re.findall(r"`([a-z_]+)`", PAGE)) - {"start_time", "end_time", "ip", "domain", "row_type"}
    parameters = {one["name"] for path in PATHS.values() for one in path.get("get", {}).get("parameters", ())}
    answers = LiveHub.of(LiveSettings(), KafkaSettings(), None).stats().keys()
    assert {word for word in words if not word.startswith("ayaflow_")} <= {
        *parameters,
        *answers,
        *FIELDS,
        *setting_names(),
    }


def test_an_unknown_name_would_be_found() -> None:
    assert not any(
        map(
            exists,
            ("--port", "AYAFLOW_PORT", "/api/lives", "/api/live?sorted=x", "ayaflow_x_total", "a.b", "traffic.db"),
        )
    )


@pytest.mark.parametrize("name", sorted(ENVIRONMENT - {"AYAFLOW_CONFIG"}))
def test_a_variable_of_ayaflow_is_refused_with_the_nearest_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(SettingsError, match=f"environment variable {name} is not a setting"):
        settings_module.load()
