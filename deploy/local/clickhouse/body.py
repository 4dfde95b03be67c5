"""A request's body: unpacked while it comes, a piece at a time, off the event loop; it ends with its client."""

import asyncio
from collections.abc import Iterator, Sequence

from aiohttp import BodyPartReader, ClientError, web

from common.errors import QueryError
from deploy.local.clickhouse.wire import compression

PIECE_BYTES = 1 << 20  # of the plain body, handed to ClickHouse at a time
RAW_BYTES = 64 << 10  # of the body as it comes, unpacked at a time
FORM_SECONDS = 120
FORM_BYTES = 64 << 20  # of a form, all its parts together
IDLE_SECONDS = 30  # without an octet, while more of the body is to come


class TooSlow(QueryError):
    """Nothing more of the body came."""


class Body:
    """Read in pieces. With `encodings`, the last one is undone first."""

    def __init__(self, request: web.Request, encodings: Sequence[str]) -> None:
        """Raises QueryError for an encoding that is not known."""
        self._request = request
        self._decoders = [made for name in reversed(encodings) if (made := compression.decoder(name))]
        self._closed = False

    def close(self) -> None:
        """Read no more, whoever still wants to: the client has gone, or has its answer."""
        self._closed = True

    async def read(self, size: int) -> bytes:
        """Up to `size` octets, as many as there are; nothing at the end. Raises QueryError."""
        parts = []
        while size > 0 and (part := await self._pull(len(self._decoders), min(size, compression.STEP_BYTES))):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def pieces(self, first: bytes, loop: asyncio.AbstractEventLoop) -> Iterator[bytes]:
        """`first` and the rest of the body; for a worker thread."""
        if first:
            yield first
        while piece := asyncio.run_coroutine_threadsafe(self.read(PIECE_BYTES), loop).result():
            yield piece

    async def _pull(self, depth: int, most: int) -> bytes:
        """Some octets after so many decoders; nothing at the end."""
        if depth == 0:
            return await self._raw(most if not self._decoders else RAW_BYTES)
        decoder = self._decoders[depth - 1]
        while not (plain := await asyncio.to_thread(decoder.pull, most)):
            more = await self._pull(depth - 1, RAW_BYTES)
            if not more:
                decoder.finish()
                return b""
            decoder.push(more)
        if self._closed:
            raise QueryError("the body is not wanted any more")
        return plain

    async def _raw(self, most: int) -> bytes:
        if self._closed:
            raise QueryError("the body is not wanted any more")
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                return await self._request.content.read(most)
        except TimeoutError as error:
            raise TooSlow(f"nothing more of the body came for {IDLE_SECONDS} s: send it without such pauses") from error
        except (ClientError, ConnectionError) as error:
            raise QueryError(f"the body broke off: {error}") from error


async def read_form(request: web.Request) -> tuple[dict[str, str], dict[str, bytes]]:
    """multipart/form-data: parameters, as in the URL, and the data of external tables by name. Raises QueryError."""
    fields: dict[str, str] = {}
    files: dict[str, bytes] = {}
    size = 0
    try:
        async with asyncio.timeout(FORM_SECONDS):
            async for part in await request.multipart():
                if not isinstance(part, BodyPartReader) or not part.name:
                    raise QueryError("a form: each part needs a name, and none may have parts of its own")
                data = bytearray()
                while chunk := await part.read_chunk(RAW_BYTES):
                    data += chunk
                    size += len(chunk)
                    if size > FORM_BYTES:
                        raise QueryError(f"a form may have {FORM_BYTES >> 20} MB: insert larger data into a table")
                if part.filename is None:
                    fields[part.name] = data.decode()
                else:
                    files[part.name] = bytes(data)
    except TimeoutError as error:
        raise TooSlow(f"the form was not there within {FORM_SECONDS} s") from error
    except (ClientError, ConnectionError, ValueError) as error:
        raise QueryError(f"the form cannot be read: {error}") from error
    return fields, files
