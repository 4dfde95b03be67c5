"""A console that answers over HTTP."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI

from tests.waiting import HANG_SECONDS, until


@contextlib.contextmanager
def served(app: FastAPI, *, sockets: list[socket.socket] | None = None, **options: Any) -> Iterator[None]:
    """Run the app until the end of the block. `options`: uvicorn's, for instance host and port."""
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=3, **options))
    thread = threading.Thread(target=server.run, kwargs={"sockets": sockets})
    thread.start()
    try:
        until(lambda: server.started)
        yield
    finally:
        server.should_exit = True
        thread.join(HANG_SECONDS)
        assert not thread.is_alive()
