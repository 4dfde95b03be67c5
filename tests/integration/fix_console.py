"""A console that answers over HTTP."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI


@contextlib.contextmanager
def served(app: FastAPI, *, sockets: list[socket.socket] | None = None, **options: Any) -> Iterator[None]:
    """Run the app until the end of the block. `options`: uvicorn's, for instance host and port."""
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=3, **options))
    thread = threading.Thread(target=server.run, kwargs={"sockets": sockets})
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.05)
        yield
    finally:
        server.should_exit = True
        thread.join(15)
