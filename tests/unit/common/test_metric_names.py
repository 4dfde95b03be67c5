"""What the components expose is sound for Prometheus, and what docs/metrics.md says."""

import re
import runpy
import subprocess
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict
from prometheus_client.parser import text_string_to_metric_families as plain

from tests.unit.common.promtool import found_promtool

DOCS = Path(__file__).parents[3] / "docs"
PAGE = runpy.run_path(str(DOCS / "make_metrics.py"))
REGISTRIES: dict[str, CollectorRegistry] = PAGE["registries"]()
ABBREVIATED = re.compile(r"_([mun]s|milli\w*|micro\w*|nano\w*|sec|min\w*|hours?|days?|[kmg]b|kilo\w*|percent)(_|$)")


def test_the_page_is_that_of_the_code() -> None:
    assert (DOCS / "metrics.md").read_text() == PAGE["page"](), "run make docs"


@pytest.mark.parametrize("component", REGISTRIES)
def test_both_formats_can_be_read_by_strict_parsers(component: str) -> None:
    registry = REGISTRIES[component]
    named = {name for name, *_ in PAGE["rows"](registry)}
    text = generate_latest(registry).decode()
    found = {family.name + ("_total" if family.type == "counter" else "") for family in plain(text)}
    assert named <= found
    families = list(strict(generate_openmetrics(registry).decode()))  # type: ignore[no-untyped-call]
    assert {family.name for family in families} >= {name.removesuffix("_total") for name in named}


@pytest.mark.parametrize("component", REGISTRIES)
def test_names_follow_prometheus_conventions(component: str) -> None:
    rows = PAGE["rows"](REGISTRIES[component])
    assert rows
    for name, kind, labels, text in rows:
        assert re.fullmatch(r"ayaflow(_[a-z]+)+", name), name
        assert name.endswith("_total") is (kind == "counter"), name
        assert not ABBREVIATED.search(name), f"{name}: base units, written out"
        assert kind != "histogram" or name.endswith("_seconds"), name
        assert not name.endswith(("_count", "_sum", "_bucket", "_created")), name
        assert kind in {"counter", "gauge", "histogram"}
        assert len(text) > 10, f"{name} needs a help text"
        assert all(re.fullmatch(r"[a-z]+", label) for label in filter(None, labels.split(", ")))


@pytest.mark.parametrize("component", REGISTRIES)
def test_promtool_finds_nothing_to_say(component: str) -> None:
    promtool = found_promtool()
    done = subprocess.run(
        [promtool, "check", "metrics"], input=generate_latest(REGISTRIES[component]), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_names_of_ayaflow_are_there() -> None:
    names = {name for name, *_ in PAGE["rows"](REGISTRIES["Console"])}
    assert names >= {
        "ayaflow_packets_total",
        "ayaflow_bytes_total",
        "ayaflow_active_connections",
        "ayaflow_domains_resolved_total",
        "ayaflow_deep_inspect_packets_total",
    }
