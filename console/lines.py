"""Connections that are only held open: who asks nothing, or half of something, is not waited for."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 10  # from the first octet that is waited for to the end of the headers
IDLE_SECONDS = 30  # within a body, without an octet


class PatientOnce(H11Protocol):
    """uvicorn's connection, with an end to its patience: it has one of its own only between two requests."""

    _timer: asyncio.TimerHandle | None = None
    _waits_for: Any = None  # the state of h11 that the timer is for

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client came, and has to ask something soon."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """It sent something."""
        super().data_received(data)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone, or speaks WebSocket from now on."""
        self._stop()
        super().connection_lost(exc)

    def _wait(self) -> None:
        state = self.conn.their_state
        if state is self._waits_for is h11.IDLE:
            return  # a header that comes octet by octet is not waited for longer
        self._stop()
        seconds = {h11.IDLE: HEADER_SECONDS, h11.SEND_BODY: IDLE_SECONDS}.get(state)
        if seconds is not None and not self.transport.is_closing() and self.transport.get_protocol() is self:
            self._waits_for = state
            self._timer = self.loop.call_later(seconds, self.transport.close)

    def _stop(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._waits_for = None
