"""The dashboards are those of the code, ask for metrics that there are, and in words that Prometheus takes."""

import json
import re
import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana import boards
from deploy.grafana.health import PANELS as HEALTH
from deploy.grafana.panels import COLUMNS
from deploy.grafana.traffic import PANELS as TRAFFIC
from tests.unit.common.promtool import found_promtool

ROOT = Path(__file__).parents[3]
PAGE = runpy.run_path(str(ROOT / "docs/make_metrics.py"))
METRICS = {
    name: labels.split(", ") for one in PAGE["registries"]().values() for name, _, labels, _ in PAGE["rows"](one)
}
OF_THE_PROCESS = {"process_cpu_seconds_total", "process_resident_memory_bytes"}
ADDED = {"instance", "le", "partition"}  # by Prometheus, and of histograms
EXPRESSIONS = [(panel.title, one) for panel in HEALTH for one in panel.promql]


def grafanas(expression: str) -> str:
    """With Grafana's own variables put in."""
    return expression.replace("$__rate_interval", "1m").replace("$__range", "1h").replace("$instance", ".*")


@pytest.mark.parametrize("name", sorted(boards.BOARDS))
def test_a_file_is_what_the_code_makes(name: str) -> None:
    assert (boards.FOLDER / name).read_text() == boards.text(name), "run: make docs"


def test_there_is_no_other_file() -> None:
    assert {path.name for path in boards.FOLDER.iterdir()} == {*boards.BOARDS}


@pytest.mark.parametrize("name", sorted(boards.BOARDS))
def test_panels_lie_beside_each_other_and_ask_provisioned_sources(name: str) -> None:
    text = (ROOT / "deploy/grafana/provisioning/datasources/ayaflow.yaml").read_text()
    sources = {one["uid"]: one["type"] for one in yaml.safe_load(text)["datasources"]}
    taken = set[tuple[int, int]]()
    panels: list[dict[str, Any]] = json.loads(boards.text(name))["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        assert not cells & taken
        assert place["x"] + place["w"] <= COLUMNS
        taken |= cells
        for target in panel["targets"]:
            assert sources[target["datasource"]["uid"]] == target["datasource"]["type"]


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS)
def test_an_expression_asks_for_metrics_and_labels_that_there_are(title: str, expression: str) -> None:
    names = re.findall(r"\b((?:ayaflow|process)_\w+)\{", expression)
    assert names, title
    for name in names:
        base = name if name in METRICS else name.removesuffix("_bucket")
        assert base in METRICS or base in OF_THE_PROCESS, name
        grouped = {label.strip() for part in re.findall(r"by \(([^)]*)\)", expression) for label in part.split(",")}
        assert grouped <= {*METRICS.get(base, ()), *ADDED}, expression


def test_prometheus_takes_the_expressions(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{i}", "expr": grafanas(one)} for i, (_, one) in enumerate(EXPRESSIONS)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run([found_promtool(), "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_panel_of_traffic_asks_for_the_chosen_time_and_nodes() -> None:
    for panel in TRAFFIC:
        assert "$__timeFilter(" in panel.sql
        assert "${node:singlequote}" in panel.sql
