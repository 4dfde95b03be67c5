"""The console's own /metrics: totals of the live view, and counters of its requests."""

import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.concurrency import run_in_threadpool

from console.access import Application, Receive, Scope, Send
from console.audit.storing import STAGE
from console.live.hub import LiveHub

_Counter = CounterMetricFamily


class HttpMetrics:
    """The metrics of one application. `hub` gives its live view, None while there is none."""

    def __init__(self, hub: Callable[[], LiveHub | None]) -> None:
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.registry.register(LiveCollector(hub))
        self.requests = Counter(
            "ayaflow_console_requests",
            "Requests by route, method and status.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "ayaflow_console_request_seconds",
            "Time until an answer has been sent, by route.",
            ("route",),
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
            registry=self.registry,
        )
        self.streams = Gauge("ayaflow_console_streams", "Open WebSocket streams.", registry=self.registry)
        self._unstored_age, self._unstored = (
            Gauge(f"ayaflow_console_{name}", text, ("partition",), registry=self.registry)
            for name, text in (
                ("oldest_unstored_seconds", "Age of a partition's oldest message that streams has not acknowledged."),
                ("unstored_messages", "Messages of a partition that streams has not acknowledged, as Kafka says."),
            )
        )

    def take_backlog(self, partitions: Iterable[Mapping[str, Any]]) -> None:
        """What console.audit.storing tells of the partitions; nothing while Kafka does not answer."""
        self._unstored_age.clear()
        self._unstored.clear()
        for each in partitions:
            self._unstored_age.labels(each["partition"]).set(each["oldest_age_seconds"] or 0)
            self._unstored.labels(each["partition"]).set(each["messages"])

    def middleware(self, application: Application) -> Application:
        """Counts what passes; the route's pattern, not the path, is the label."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await application(scope, receive, send)
                return
            start, status = time.perf_counter(), 500

            async def watched(message: MutableMapping[str, Any]) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await application(scope, receive, watched)
            finally:
                route = getattr(scope.get("route"), "path", "other")
                method = scope["method"] if scope["method"] in {"GET", "HEAD", "POST", "PUT", "DELETE"} else "other"
                self.requests.labels(route, method, str(status)).inc()
                self.seconds.labels(route).observe(time.perf_counter() - start)

        return counted


class LiveCollector(Collector):
    """The live view as metrics, read when they are asked for."""

    def __init__(self, hub: Callable[[], LiveHub | None]) -> None:
        self._hub = hub

    def describe(self) -> Iterable[Metric]:
        """Names, without asking."""
        return _families()

    def collect(self) -> Iterable[Metric]:
        """Values now."""
        packets, octets, dropped, coalesced, left_out, active, resolved, inspected, reverse = families = _families()
        hub = self._hub()
        if hub is not None:
            passed, connections = hub.metrics()
            left_out.add_metric((), hub.left_out)
            resolved.add_metric((), hub.domains_resolved)
            for result, count in hub.reverse_dns.items():
                reverse.add_metric((result,), count)
            for place, sums in passed.items():
                packets.add_metric(place, sums["packets"])
                octets.add_metric(place, sums["bytes"])
                dropped.add_metric(place, sums["ring_full_packets"])
                coalesced.add_metric(place, sums["coalesced_packets"])
                inspected.add_metric(place, sums["copied_packets"])
            for node, count in connections.items():
                active.add_metric((node,), count)
        return families


def _families() -> tuple[
    _Counter, _Counter, _Counter, _Counter, _Counter, GaugeMetricFamily, _Counter, _Counter, _Counter
]:
    place = ("node", "interface", "direction")
    return (
        CounterMetricFamily("ayaflow_packets", "Recorded packets since this console started.", labels=place),
        CounterMetricFamily("ayaflow_bytes", "Recorded bytes since this console started.", labels=place),
        CounterMetricFamily(
            "ayaflow_dropped_packets", "Packets for which the kernel's ring had no room.", labels=place
        ),
        CounterMetricFamily(
            "ayaflow_coalesced_packets", "Packets that the kernel added up by flow, of the recorded.", labels=place
        ),
        CounterMetricFamily(
            "ayaflow_console_live_left_out", "Messages of the live topic that cannot be right and were left out."
        ),
        GaugeMetricFamily("ayaflow_active_connections", "Flows in the open windows.", labels=("node",)),
        CounterMetricFamily(
            "ayaflow_domains_resolved", "Connections that got a name, and addresses that reverse DNS found one for."
        ),
        CounterMetricFamily(
            "ayaflow_deep_inspect_packets", "Packets whose payload was copied to be read for names.", labels=place
        ),
        CounterMetricFamily(
            "ayaflow_console_reverse_lookups",
            "Addresses that reverse DNS was asked for, by result: found, absent, failed; left_out: too many waited.",
            labels=("result",),
        ),
    )


def router(metrics: HttpMetrics) -> APIRouter:
    """`/metrics`."""
    routes = APIRouter()

    @routes.head("/metrics", include_in_schema=False)
    @routes.get("/metrics", summary="Prometheus metrics of the console", response_class=Response)
    async def scrape(request: Request) -> Response:
        """In the text format, or OpenMetrics when that is asked for."""
        verdicts = await request.app.state.health.verdicts((STAGE,))
        metrics.take_backlog(verdicts[STAGE].details.get("partitions", ()))
        encode, kind = choose_encoder(request.headers.get("Accept", ""))
        text = await run_in_threadpool(encode, metrics.registry)
        return Response(text, headers={"Content-Type": kind})

    return routes
