"""The HTTP service: the dashboard, health, and the schemas for whoever reads the topics. Read-only."""

import contextlib
import socket
from collections.abc import AsyncIterator
from importlib import metadata

import uvicorn
from fastapi import FastAPI

from common import logs
from common.address import Address, listen
from common.settings import Settings
from common.stopping import END_SECONDS, Stop, stop_on_signals
from console import certificate
from console.access import Access, warning
from console.api import asyncapi, audit, dashboard, explore, fields, health, history, live, names, nodes, registry
from console.api import metrics as http_metrics
from console.api.metrics import HttpMetrics
from console.api.numbers import Int64Strings
from console.api.parameters import Services, add_error_handlers
from console.audit.storing import Storing
from console.certificate import Reload
from console.health import TIMEOUT_SECONDS, questions
from console.lines import PatientOnce
from console.live.hub import LiveHub
from console.names.naming import naming
from console.reports import routes as reports
from console.reports.link import CompletenessLink
from console.store.pool import Database
from schemas.avro.registry import fixed_schemas
from schemas.topics import TopicNames

log = logs.get("console")
_STOP_SECONDS = 5


def build_app(settings: Settings, *, health_timeout_seconds: float = TIMEOUT_SECONDS) -> FastAPI:
    """The application, not yet listening."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        streams = settings.streams
        storing = Storing(settings.kafka, streams, timeout_seconds=health_timeout_seconds)
        asked = questions(settings, timeout_seconds=health_timeout_seconds)
        app.state.health = health.Health(
            # without the console, which would ask itself
            [*(question for question in asked if question.stage != "console"), storing.question()],
            node=settings.node,
            own=lambda: app.state.services.hub.health() if app.state.services else ("", {}),
            timeout_seconds=health_timeout_seconds,
        )
        database = Database(settings.console, settings.clickhouse)
        try:
            async with contextlib.AsyncExitStack() as stack:
                named = stack.enter_context(naming(settings.names))
                hub = LiveHub.of(settings.live, settings.kafka, settings.schema_registry.url, named)
                await stack.enter_async_context(hub)
                app.state.services = Services(
                    window_seconds=streams.window_seconds,
                    node_timeout_seconds=streams.node_timeout_seconds,
                    topic=storing.topic,
                    health=app.state.health,
                    flows_retention_days=settings.clickhouse.flows_retention_days,
                    database=database,
                    hub=hub,
                    naming=named,
                )
                yield
        finally:
            app.state.health.close()
            storing.close()
            await database.close()

    # FastAPI's own documentation pages load scripts from elsewhere; /openapi.json is served
    app = FastAPI(
        title="ayaflow",
        version=metadata.version("ayaflow"),
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.services = None
    metrics = app.state.metrics = HttpMetrics(lambda: app.state.services.hub if app.state.services else None)
    app.add_middleware(metrics.middleware)
    app.add_middleware(Int64Strings)
    app.add_middleware(CompletenessLink)
    app.add_middleware(Access, settings.console)  # the outermost: it is asked first
    app.include_router(dashboard.router())
    for part in (live, history, explore, names, reports, nodes, audit, fields):
        app.include_router(part.router())
    app.include_router(http_metrics.router(metrics))
    add_error_handlers(app)

    app.include_router(health.router())
    topics = TopicNames.of(settings.kafka.topic_prefix)
    app.include_router(registry.router(fixed_schemas(topics), settings.schema_registry.url))
    app.include_router(
        asyncapi.router(settings.kafka, group=settings.streams.app_id, registry_url=settings.schema_registry.url)
    )

    return app


def run(settings: Settings) -> int:
    """Serve until SIGINT or SIGTERM. Raises EnvironmentProblem when the address cannot be used."""
    address = Address.parse(settings.console.listen, "console.listen")
    certificate.check(settings.console)
    with stop_on_signals(within=END_SECONDS) as stop, listen(address, backlog=512) as listener:
        # inherited by connections. asyncio leaves it off for sockets whose protocol number is 0, as here, and then an
        # answer of two writes waits 40 ms for the client's delayed acknowledgement
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server = _Server(
            stop,
            uvicorn.Config(
                build_app(settings),
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=_STOP_SECONDS,
                server_header=False,
                http=PatientOnce,
                ws="websockets-sansio",
                ws_per_message_deflate=False,
                ws_max_size=1 << 16,
                proxy_headers=False,
                ssl_certfile=settings.console.tls_certificate,
                ssl_keyfile=settings.console.tls_key,
            ),
            Reload(settings.console),
        )
        scheme = "https" if settings.console.tls_certificate else "http"
        log.info("serving", url=f"{scheme}://{settings.console.listen}")
        if text := warning(settings.console):
            log.warning("open to the network", hint=text)
        server.run(sockets=[listener])
    log.info("stopped")
    return 0 if server.started else 1


class _Server(uvicorn.Server):
    """Handles signals itself while it serves, and raises them once more when it is done: for `stop`, a clean end.

    What came before it handled them is seen here.
    """

    def __init__(self, stop: Stop, config: uvicorn.Config, reload: Reload) -> None:
        super().__init__(config)
        self._stop, self._reload = stop, reload

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to end; a new certificate is taken."""
        self._reload.step(self.config.ssl)
        return self._stop.is_set() or await super().on_tick(counter)
