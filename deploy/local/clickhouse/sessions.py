"""Sessions of the embedded ClickHouse: a connection that is kept between requests, with its temporary tables. Pure."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

MOST_SESSIONS = 256


class SessionIsLocked(Exception):
    """Another request of this session still runs."""


class SessionNotFound(Exception):
    """There is none of this name, and the client does not want a new one."""


class Closable(Protocol):
    """What a session keeps."""

    def close(self) -> None:
        """Give it up."""


C = TypeVar("C", bound=Closable)


@dataclass(slots=True)
class _Session(Generic[C]):
    connection: C
    expires: float  # on the caller's clock, s
    busy: bool


class Sessions(Generic[C]):
    """Sessions by id. Not for use by several threads."""

    def __init__(self, connect: Callable[[], C]) -> None:
        self._connect = connect
        self._sessions: dict[str, _Session[C]] = {}

    @contextlib.contextmanager
    def lease(
        self, session_id: str, seconds: float, now: float, *, must_exist: bool = False, close: bool = False
    ) -> Iterator[C]:
        """The session's connection, for one request; it ends when idle for `seconds`, with `close` after this one.

        Raises SessionIsLocked, and with `must_exist` SessionNotFound.
        """
        self._expire(now)
        session = self._sessions.pop(session_id, None)
        if session is None and must_exist:
            raise SessionNotFound(f"Session {session_id} not found: it ended, or never was (session_check=1)")
        if session is None:
            session = _Session(self._connect(), now, busy=False)
        self._sessions[session_id] = session  # last in order: the first is the one idle longest
        if session.busy:
            raise SessionIsLocked(
                f"Session {session_id} is locked by a concurrent client: wait for its query, or "
                "use a session for each thread"
            )
        session.busy, session.expires = True, now + seconds
        try:
            yield session.connection
        finally:
            session.busy = False
            if close:
                del self._sessions[session_id]
                session.connection.close()

    def close(self) -> None:
        """End all sessions."""
        for session in self._sessions.values():
            session.connection.close()
        self._sessions.clear()

    def _expire(self, now: float) -> None:
        idle = [(name, session) for name, session in self._sessions.items() if not session.busy]
        surplus = len(self._sessions) - MOST_SESSIONS
        for index, (name, session) in enumerate(idle):
            if session.expires <= now or index <= surplus:
                session.connection.close()
                del self._sessions[name]
