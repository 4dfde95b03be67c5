"""What a Grafana dashboard is made of, as dictionaries of its JSON model. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

CLICKHOUSE = {"type": "grafana-clickhouse-datasource", "uid": "ayaflow-clickhouse"}
PROMETHEUS = {"type": "prometheus", "uid": "ayaflow-prometheus"}
COLUMNS = 24  # of Grafana's grid
SCHEMA_VERSION = 39
_FORMATS = {"timeseries": 0, "table": 1, "stat": 1}  # of the ClickHouse data source: how rows become frames


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel: what it asks, and how it shows the answer."""

    title: str
    kind: str  # timeseries, stat or table
    unit: str  # Grafana's name of it
    sql: str = ""  # for ClickHouse; else
    promql: Sequence[str] = ()  # for Prometheus
    legends: Sequence[str] = ()  # of promql, as many
    about: str = ""
    width: int = 12
    height: int = 8
    stacked: bool = False
    thresholds: Sequence[tuple[float | None, str]] = field(default=((None, "green"),))  # from a value on, a colour


def dashboard(uid: str, title: str, panels: Sequence[Panel], variables: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A dashboard with its panels laid out from left to right, row after row."""
    return {
        "uid": uid,
        "title": title,
        "tags": ["ayaflow"],
        "editable": False,
        "schemaVersion": SCHEMA_VERSION,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": list(variables)},
        "panels": [_panel(number, one, place) for number, (one, place) in enumerate(_laid_out(panels), 1)],
    }


def variable(name: str, label: str, source: dict[str, str], query: str) -> dict[str, Any]:
    """A choice of several values, all of them at first, which `query` finds."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": source,
        "query": query,
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _laid_out(panels: Sequence[Panel]) -> list[tuple[Panel, dict[str, int]]]:
    found, x, y, tallest = [], 0, 0, 0
    for one in panels:
        if x + one.width > COLUMNS:
            x, y, tallest = 0, y + tallest, 0
        found.append((one, {"x": x, "y": y, "w": one.width, "h": one.height}))
        x, tallest = x + one.width, max(tallest, one.height)
    return found


def _panel(number: int, one: Panel, place: dict[str, int]) -> dict[str, Any]:
    source = CLICKHOUSE if one.sql else PROMETHEUS
    steps = [{"value": value, "color": colour} for value, colour in one.thresholds]
    custom = {"stacking": {"mode": "normal"}, "fillOpacity": 60, "lineWidth": 0} if one.stacked else {}
    return {
        "id": number,
        "title": one.title,
        "description": one.about,
        "type": one.kind,
        "datasource": source,
        "gridPos": place,
        "targets": _clickhouse(one) if one.sql else _prometheus(one),
        "fieldConfig": {
            "defaults": {"unit": one.unit, "custom": custom, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": _units_of_columns() if one.kind == "table" else [],
        },
        "options": {"reduceOptions": {"calcs": ["lastNotNull"]}} if one.kind == "stat" else {},
    }


def _units_of_columns() -> list[dict[str, Any]]:
    return [
        {"matcher": {"id": "byName", "options": name}, "properties": [{"id": "unit", "value": unit}]}
        for name, unit in (("bytes", "decbytes"), ("packets", "short"), ("flows", "short"))
    ]


def _clickhouse(one: Panel) -> list[dict[str, Any]]:
    return [
        {
            "refId": "A",
            "datasource": CLICKHOUSE,
            "editorType": "sql",
            "queryType": one.kind if one.kind == "timeseries" else "table",
            "format": _FORMATS[one.kind],
            "rawSql": one.sql,
        }
    ]


def _prometheus(one: Panel) -> list[dict[str, Any]]:
    return [
        {
            "refId": chr(ord("A") + number),
            "datasource": PROMETHEUS,
            "expr": expression,
            "legendFormat": legend,
            "range": one.kind == "timeseries",
            "instant": one.kind != "timeseries",
        }
        for number, (expression, legend) in enumerate(zip(one.promql, one.legends, strict=True))
    ]
