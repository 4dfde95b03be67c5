"""`ayaflow clickhouse`: ClickHouse's HTTP interface over chDB, for machines without a ClickHouse server.

Bound to a loopback address. The clients of tests/clients talk to it at their defaults, as to a server. Queries run
in threads, each on a connection of its own; the event loop only moves bytes.
"""

import asyncio
import contextlib
import functools
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from aiohttp import web

from common import logs
from common.address import Address
from common.errors import EnvironmentProblem, QueryError
from common.security.secrets import reveal
from common.settings import ClickHouseSettings, Settings
from common.stopping import END_SECONDS, Stop, stop_on_signals
from deploy.local import endpoints
from deploy.local.clickhouse import access, fence, http_query, sql, statement
from deploy.local.clickhouse.access import Role
from deploy.local.clickhouse.body import Body, TooSlow, read_form
from deploy.local.clickhouse.doors import KEEP_ALIVE_SECONDS, Doors
from deploy.local.clickhouse.engine import Answer, Connection, Engine, EngineError
from deploy.local.clickhouse.http_query import Query
from deploy.local.clickhouse.running import Running, SameId
from deploy.local.clickhouse.sessions import SessionIsLocked, SessionNotFound, Sessions
from deploy.local.clickhouse.statement import Outcome
from deploy.local.clickhouse.wire import blocks, compression
from deploy.local.process import make_directory, only_one, rss_mb

log = logs.get("clickhouse")

THREADS = 16  # statements that run at a time
WRITERS = 4  # of them inserts, so that readers always find a thread
BEGINNING_BYTES = 64 << 10  # of an answer that are held in any case: a small one then tells of all its work
HELD_BYTES = 32 << 20  # of an answer that is to be sent when all is there; a larger one is sent as it comes
STOP_SECONDS = 10


def run(settings: Settings) -> int:
    """Serve until SIGINT or SIGTERM. Returns 0. Raises EnvironmentProblem or SettingsError when it cannot start."""
    listen = endpoints.clickhouse(settings.clickhouse)
    if not listen.is_loopback:
        raise EnvironmentProblem(
            f"clickhouse.url names {listen.text}, which is not on this machine: use that ClickHouse as it is, or "
            "set a loopback address for the embedded one"
        )
    with only_one(settings.data_dir, "clickhouse", "an embedded ClickHouse"):
        if endpoints.in_use(listen):
            raise EnvironmentProblem(endpoints.refusal(listen))
        directory = settings.data_dir / "clickhouse"
        make_directory(directory)
        began = time.monotonic()
        own = access.with_password(settings.clickhouse, settings.data_dir)
        own = own.model_copy(update={"password": reveal(own.password, "clickhouse.password")})
        _fence(directory)
        engine = Engine(directory, memory_bytes=_memory_budget(), default_database=settings.clickhouse.database)
        try:
            with stop_on_signals(within=END_SECONDS) as stop:
                asyncio.run(_serve(Server(engine, own, directory), listen, began, stop))
        finally:
            engine.close()
    log.info("stopped")
    return 0


async def _serve(server: "Server", listen: Address, began: float, stop: Stop) -> None:
    runner = web.AppRunner(
        server.application(),
        access_log=None,
        handler_cancellation=True,
        auto_decompress=False,
        keepalive_timeout=KEEP_ALIVE_SECONDS,
        max_line_size=1 << 20,
        max_field_size=1 << 20,
        shutdown_timeout=STOP_SECONDS,
    )
    await runner.setup()
    listening, listener = runner.server, None
    assert listening
    try:
        listener = await asyncio.get_running_loop().create_server(
            lambda: server.doors.admit(listening()), listen.host, listen.port, backlog=512
        )
        log.info(
            "ready",
            url=f"http://{listen.text}",
            version=server.version,
            writer=server.writer,
            rss_mb=rss_mb(os.getpid()),
            seconds=round(time.monotonic() - began, 1),
        )
        with stop.on_loop() as stopping:
            await stopping.wait()
    finally:
        if listener:
            listener.close()
        await runner.cleanup()
        server.close()


class Server:
    """The routes, over an engine."""

    def __init__(self, engine: Engine, settings: ClickHouseSettings, directory: Path) -> None:
        self._engine = engine
        self._settings = settings
        self._directory = directory
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="query")
        self._killer = ThreadPoolExecutor(1, thread_name_prefix="kill")
        self._writing = asyncio.Semaphore(WRITERS)
        self._sessions = {role: Sessions(functools.partial(engine.connection, role)) for role in Role}
        self._running = Running()
        self.doors = Doors(_refuse)
        self.version = engine.version
        self.writer = settings.username

    def application(self) -> web.Application:
        """The aiohttp application."""
        application = web.Application(middlewares=[self.doors.middleware])
        application.router.add_get("/ping", self._ping)
        application.router.add_get("/replicas_status", self._ping)
        application.router.add_get("/health", self._health)
        application.router.add_get("/", self._statement)
        application.router.add_post("/", self._statement)
        return application

    def close(self) -> None:
        """Close the sessions and wait for the threads."""
        for sessions in self._sessions.values():
            sessions.close()
        self._threads.shutdown()
        self._killer.shutdown()

    async def _ping(self, _request: web.Request) -> web.Response:
        return web.Response(text="Ok.\n")

    async def _health(self, _request: web.Request) -> web.Response:
        return web.json_response({"ok": True, "version": self.version, "rss_mb": rss_mb(os.getpid())})

    async def _statement(self, request: web.Request) -> web.StreamResponse:
        query_id = request.query.get("query_id", "")
        try:
            role = self._role(request)
            url = dict(request.query)
            files: dict[str, bytes] = {}
            if request.content_type == "multipart/form-data":
                fields, files = await read_form(request)
                url |= fields
            tables, url = http_query.external(files, url)
            query = http_query.parse(method=request.method, url=url, headers=request.headers, tables=tables)
            query_id = query.query_id
            if not query.text and request.method in {"GET", "HEAD"}:
                return web.Response(text="Ok.\n")
            return await self._answer(request, query, role)
        except _ANSWERED as error:
            return _error(*self._explain(error), query_id)

    def _explain(self, error: Exception) -> tuple[int, str]:
        """ClickHouse's code and the message for an error."""
        if not isinstance(error, EngineError):
            return next(code for kind, code in _CODES.items() if isinstance(error, kind)), str(error)
        message = http_query.clean(str(error))
        if "No space left" in message or http_query.code_of(message) == http_query.NOT_ENOUGH_SPACE:
            message += f" The disk of {self._directory} is full: make room, or lower clickhouse.flows_retention_days."
            log.warning("disk full", directory=str(self._directory))
        if http_query.code_of(message) == http_query.ACCESS_DENIED:
            message += (
                f" The embedded ClickHouse reaches its own tables only; {self._settings.username} writes to them, with "
                f"clickhouse.password or the one in {self._directory.parent / access.PASSWORD_FILE}."
            )
        return http_query.code_of(message), message

    def _role(self, request: web.Request) -> Role:
        user, password = http_query.credentials(request.query, request.headers)
        role = access.role_of(self._settings, user, password)
        if role is None:
            raise _Denied(f"{user}: Authentication failed: password is incorrect, or there is no user with such name")
        return role

    async def _answer(self, request: web.Request, query: Query, role: Role) -> web.StreamResponse:
        encodings = request.headers.get("Content-Encoding", "").split(",")
        body = Body(request, [*([blocks.NAME] if query.decompress else []), *encodings])
        query, insert = await statement.read(query, body)
        async with self._connection(query, role) as connection, self._writing if insert else contextlib.nullcontext():
            loop = asyncio.get_running_loop()
            pieces = body.pieces(insert.data, loop) if insert else iter(())
            with self._running.named(query.query_id, connection.mark):
                work = loop.run_in_executor(
                    self._threads,
                    statement.execute,
                    connection,
                    query,
                    insert,
                    pieces,
                    functools.partial(self._running.in_words_of_the_engine, role=role),
                )
                try:
                    outcome: Outcome = await self._or_kill(work, connection, gone=body.close)
                finally:
                    body.close()
                return await self._send(request, query, connection, outcome)

    @contextlib.asynccontextmanager
    async def _connection(self, query: Query, role: Role) -> AsyncIterator[Connection]:
        """A fresh connection, or the session's."""
        loop = asyncio.get_running_loop()
        if query.session_id:
            lease = self._sessions[role].lease(
                query.session_id,
                query.session_seconds,
                time.monotonic(),
                must_exist=query.session_check,
                close=query.close_session,
            )
            with lease as connection:
                try:
                    yield connection
                finally:
                    await asyncio.shield(loop.run_in_executor(self._threads, connection.reset))
            return
        connection = await loop.run_in_executor(self._threads, self._engine.connection, role)
        with connection:
            yield connection

    async def _or_kill(
        self, work: "asyncio.Future[Any]", connection: Connection, gone: Callable[[], None] = lambda: None
    ) -> Any:
        """Wait for a step; when the client goes away meanwhile, stop the query before the connection is closed."""
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            gone()
            while not work.done():
                await asyncio.get_running_loop().run_in_executor(self._killer, self._engine.kill, connection.mark)
                await asyncio.wait([work], timeout=0.2)
            if not work.cancelled():
                work.exception()  # it was cancelled: nobody is left to hear of it
            raise

    async def _send(
        self, request: web.Request, query: Query, connection: Connection, outcome: Outcome
    ) -> web.StreamResponse:
        held = [outcome.answer]
        rest: Generator[Answer, None, None] | None = outcome.rest
        loop = asyncio.get_running_loop()
        most = HELD_BYTES if query.wait else BEGINNING_BYTES
        while rest and sum(len(piece.body) for piece in held) <= most:
            piece = await self._or_kill(loop.run_in_executor(self._threads, next, rest, None), connection)
            if piece is None:
                rest = None
            else:
                held.append(piece)
        headers = _headers(query, outcome, held)
        body = b"".join(piece.body for piece in held)
        encoder = None
        if body or rest:
            encoder = _encoder(request, query, headers)
        if encoder:
            body = await asyncio.to_thread(encoder.pack, body)
        if not rest:
            return web.Response(body=body + encoder.finish() if encoder else body, headers=headers)
        tag = secrets.token_hex(8)
        response = web.StreamResponse(headers={**headers, "X-ClickHouse-Exception-Tag": tag})
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(body)
        try:
            while (
                piece := await self._or_kill(loop.run_in_executor(self._threads, next, rest, None), connection)
            ) is not None:
                await response.write(await asyncio.to_thread(encoder.pack, piece.body) if encoder else piece.body)
        except EngineError as error:
            trailer = http_query.exception_trailer(http_query.clean(str(error)), tag)
            await response.write(encoder.pack(trailer) if encoder else trailer)
        if encoder:
            await response.write(encoder.finish())
        return response  # aiohttp ends it when the session is free again: the client's next request may come at once


class _Denied(Exception):
    """Not one who may ask."""


_CODES: dict[type[Exception], int] = {  # ClickHouse's own; the first that fits
    _Denied: http_query.AUTHENTICATION_FAILED,
    SessionIsLocked: http_query.SESSION_IS_LOCKED,
    SessionNotFound: http_query.SESSION_NOT_FOUND,
    SameId: http_query.SAME_ID,
    http_query.BadSessionTimeout: http_query.INVALID_SESSION_TIMEOUT,
    http_query.Unsupported: http_query.NOT_IMPLEMENTED,
    TooSlow: http_query.SOCKET_TIMEOUT,
    sql.Refusal: http_query.NOT_IMPLEMENTED,
    QueryError: http_query.SYNTAX_ERROR,
}
_ANSWERED: tuple[type[Exception], ...] = (*_CODES, EngineError)


def _headers(query: Query, outcome: Outcome, pieces: Sequence[Answer]) -> dict[str, str]:
    """Of an answer. What they say of its work is that of the pieces which are at hand, as with a server."""
    summary = http_query.summary(
        read_rows=sum(piece.read_rows for piece in pieces),
        read_bytes=sum(piece.read_bytes for piece in pieces),
        written_rows=sum(piece.written_rows for piece in pieces),
        written_bytes=sum(piece.written_bytes for piece in pieces),
        result_bytes=sum(len(piece.body) for piece in pieces),
        elapsed_ns=sum(piece.elapsed_ns for piece in pieces),
    )
    headers = {
        "X-ClickHouse-Query-Id": query.query_id,
        "X-ClickHouse-Server-Display-Name": "ayaflow",
        "X-ClickHouse-Timezone": "UTC",
        "X-ClickHouse-Summary": summary,
        "Content-Type": http_query.content_type(outcome.format or "TabSeparated"),
    }
    if query.progress:
        headers["X-ClickHouse-Progress"] = summary
    if outcome.format:
        headers["X-ClickHouse-Format"] = outcome.format
    return headers


def _encoder(request: web.Request, query: Query, headers: dict[str, str]) -> compression.Encoder | None:
    """What packs the answer, if the client wants that; `headers` says so to it."""
    if query.compress:
        return blocks.Encoder(query.compress)
    encoding = compression.choose(request.headers.get("Accept-Encoding", "")) if query.accepts_encoding else None
    if not encoding:
        return None
    headers["Content-Encoding"] = encoding
    return compression.encoder(encoding)


def _refuse(status: int, sentence: str) -> web.Response:
    """For one who may not ask, before anything of the request is read."""
    code = http_query.BAD_ARGUMENTS if status == 400 else http_query.AUTHENTICATION_FAILED
    return _error(code, sentence, "")


def _error(code: int, message: str, query_id: str) -> web.Response:
    if not message.startswith("Code: "):
        message = f"Code: {code}. DB::Exception: {message}."
    return web.Response(
        status=http_query.status_of(code),
        text=message + "\n",
        headers={
            "X-ClickHouse-Exception-Code": str(code),
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Timezone": "UTC",
        },
    )


def _fence(directory: Path) -> None:
    """Shut this process in; its temporary files are below `directory`."""
    os.environ["TMPDIR"] = str(directory.resolve())
    if not fence.close(directory):
        log.warning("this kernel has no Landlock: ClickHouse's own grants alone keep it from files and servers")


def _memory_budget() -> int:
    """Of all queries together, bytes: a quarter of the machine, at least 512 MB, at most 4 GB."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(max(total // 4, 512 << 20), 4 << 30)
