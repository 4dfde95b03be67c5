"""The alert rules name metrics and labels that the components have."""

import re
import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.metrics import LEDGER_FIGURES, SKEWS
from tests.unit.common.promtool import found_promtool

ROOT = Path(__file__).parents[3]
FILE = ROOT / "deploy/prometheus/alerts.yml"
PAGE = runpy.run_path(str(ROOT / "docs/make_metrics.py"))
ROWS = [row for one in PAGE["registries"]().values() for row in PAGE["rows"](one)]
METRICS = {name: labels.split(", ") for name, _, labels, _ in ROWS}
RULES: list[dict[str, Any]] = [rule for group in yaml.safe_load(FILE.read_text())["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_a_rule_asks_for_metrics_that_there_are(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert set(rule["annotations"]) == {"summary", "description"}
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    used = re.findall(r"(ayaflow_\w+)(?:\{(\w+)(?:=|=~)\"([^\"]*)\"\})?", rule["expr"])
    assert used
    for name, label, values in used:
        assert name in METRICS
        if label:
            assert label in METRICS[name]
            assert set(values.split("|")) <= {*LEDGER_FIGURES, *SKEWS}


def test_each_alert_has_its_section_in_the_runbook() -> None:
    sections = re.findall(r"^## (Ayaflow\w+)$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE)
    assert sections == [rule["alert"] for rule in RULES]


def test_each_figure_that_may_not_be_is_watched() -> None:
    watched = " ".join(rule["expr"] for rule in RULES if rule["labels"]["severity"] == "critical")
    for name in ("missing", "surplus", "unclosed", "lost_messages", "gaps"):
        assert name in watched


def test_promtool_takes_the_rules() -> None:
    promtool = found_promtool()
    done = subprocess.run([promtool, "check", "rules", str(FILE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
