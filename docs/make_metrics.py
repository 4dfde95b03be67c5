"""Writes docs/metrics.md from the metrics that the components register (`make docs`); a test fails when they differ."""

from pathlib import Path

from prometheus_client import CollectorRegistry

import streams.metrics
from console.api.metrics import HttpMetrics
from producer.metrics import ProducerMetrics

PAGE = Path(__file__).parent / "metrics.md"

HEAD = """# Metrics

Each component serves its own for Prometheus at `/metrics`, in the text format or as OpenMetrics. Beside those below
there are prometheus-client's of the process (`process_*`, `python_*`). Counters begin with the process; when they
began is in `…_created`.

```yaml
scrape_configs:
  - job_name: ayaflow-producer            # one a node
    static_configs: [{targets: ["127.0.0.1:9464"]}]
  - job_name: ayaflow-streams
    static_configs: [{targets: ["127.0.0.1:9465"]}]
  - job_name: ayaflow-console
    static_configs: [{targets: ["127.0.0.1:8080"]}]
```

`ayaflow_packets_total` and `ayaflow_bytes_total` are served twice: by each producer, of all that passed its node; and
by the console, of what was recorded of all nodes, for those who scrape only it. Choose one by its job before adding up.

`deploy/prometheus/alerts.yml` has alert rules: any packet that is lost or not explained is critical.

This page is written from the code by `make docs`.
"""

COMPONENTS = {
    "Producer": "`producer.metrics_listen`, by default 127.0.0.1:9464",
    "Streams": "`streams.metrics_listen`, by default 127.0.0.1:9465",
    "Console": "`console.listen`, by default 127.0.0.1:8080; whoever may ask the API may ask here",
}


def registries() -> dict[str, CollectorRegistry]:
    """What each component registers, in a registry of its own."""
    console = HttpMetrics(lambda: None)
    found = {"Producer": CollectorRegistry(), "Streams": CollectorRegistry(), "Console": console.registry}
    ProducerMetrics(found["Producer"])
    streams.metrics.create(found["Streams"])
    return found


def rows(registry: CollectorRegistry) -> list[tuple[str, str, str, str]]:
    """Name as it is exposed, type, labels and help of each metric."""
    found = []
    collectors = registry._collector_to_names.items()  # noqa: SLF001  there is no other way to ask for labels
    for collector in (one for one, names in collectors if any(name.startswith("ayaflow_") for name in names)):
        for metric in collector.describe():
            labels = getattr(collector, "_labelnames", None) or getattr(metric, "_labelnames", ())
            name = f"{metric.name}_total" if metric.type == "counter" else metric.name
            found.append((name, metric.type, ", ".join(labels), metric.documentation.rstrip(".")))
    return sorted(found)


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for component, registry in registries().items():
        lines = [f"| `{name}` | {kind} | {labels} | {text} |" for name, kind, labels, text in rows(registry)]
        head = f"\n## {component}\n\nAt {COMPONENTS[component]}.\n\n"
        parts.append(head + "\n".join(("| metric | type | labels | what it is |", "|---|---|---|---|", *lines, "")))
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
