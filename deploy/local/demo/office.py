"""The office of the demo: people who browse and watch films, programs that ask a database, a copy to the backup.

python -m deploy.local.demo.office          run in its namespace; ends when it is ended
"""

import asyncio
import contextlib
import random
import socket
import ssl
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NoReturn

from deploy.local.demo import messages, plan
from producer.interfaces import namespaces

_ANSWER_SECONDS = 5.0
_RETRY_SECONDS = 1.0
_SEGMENT_SECONDS = 2.0
_COPY_EVERY_SECONDS, _COPY_SECONDS, _COPY_STEP_OCTETS = 240.0, 10.0, 400_000
_RANDOM = random.Random()  # noqa: S311  nothing is kept secret by it

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def resolve(host: str, name: str) -> str | None:
    """Ask the resolver; None: there is no such name."""
    kind = messages.AAAA if ":" in plan.NAMES.get(name, "") else messages.A
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.setblocking(False)
        asking.bind((plan.PEOPLE[0] if ":" in host else host, 0))
        asking.connect((plan.RESOLVER, plan.DNS_PORT))
        await loop.sock_sendall(asking, messages.question(_RANDOM.randrange(1 << 16), name, kind))
        async with asyncio.timeout(_ANSWER_SECONDS):
            return messages.address_in(await loop.sock_recv(asking, 4096))


@contextlib.asynccontextmanager
async def connected(host: str, name: str, port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[Connection]:
    """A connection to who has a name."""
    address = await resolve(host, name)
    async with asyncio.timeout(_ANSWER_SECONDS):
        reader, writer = await asyncio.open_connection(
            address, port, ssl=tls, server_hostname=name if tls else None, local_addr=(host, 0)
        )
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_ANSWER_SECONDS):
                await writer.wait_closed()


async def fetch(connection: Connection, name: str, octets: int) -> None:
    """GET so many octets."""
    reader, writer = connection
    writer.write(f"GET /{octets} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(octets)


def octets_of(site: plan.Site) -> int:
    """Of an answer: a heavy tail around the median."""
    return min(4_000_000, max(200, int(site.octets * _RANDOM.lognormvariate(0, 0.9))))


async def browse(number: int, tls: ssl.SSLContext) -> None:
    """Visit a site, look at what came, go on."""
    (site,) = _RANDOM.choices(plan.SITES, [one.weight for one in plan.SITES])
    secure = tls if site.port == plan.HTTPS_PORT else None
    async with connected(plan.person(number, site), site.name, site.port, secure) as connection:
        for _ in range(_RANDOM.randint(1, 5)):
            await fetch(connection, site.name, octets_of(site))
            await asyncio.sleep(_RANDOM.expovariate(4))
    if _RANDOM.random() < 0.15:
        await resolve(plan.PEOPLE[number], _RANDOM.choice(plan.MISSING))
    await asyncio.sleep(_RANDOM.expovariate(1 / 8))


async def watch(number: int, tls: ssl.SSLContext) -> None:
    """A film, a segment at a time."""
    async with connected(plan.PEOPLE[number], plan.CINEMA.name, plan.CINEMA.port, tls) as connection:
        for _ in range(_RANDOM.randint(5, 20)):
            await fetch(connection, plan.CINEMA.name, octets_of(plan.CINEMA))
            await asyncio.sleep(_SEGMENT_SECONDS)
    await asyncio.sleep(_RANDOM.expovariate(1 / 3))


async def ask(host: str) -> None:
    """Stay connected to the database for a minute or so, and ask."""
    async with connected(host, "db.office.example", plan.POSTGRESQL_PORT) as (reader, writer):
        start = struct.pack(">I", 196_608) + b"user\0app\0\0"
        writer.write(struct.pack(">I", len(start) + 4) + start)
        await reader.readexactly(15)
        for _ in range(_RANDOM.randint(200, 800)):
            rows = int(_RANDOM.paretovariate(1.2))
            query = b"FETCH orders %d\0" % min(rows, 400)
            writer.write(b"Q" + struct.pack(">I", len(query) + 4) + query)
            await reader.readuntil(b"Z\0\0\0\x05I")
            await asyncio.sleep(_RANDOM.expovariate(8))


async def copy() -> None:
    """The files of the office to the backup, now and then."""
    async with connected(plan.FILES, "backup.office.example", plan.SSH_PORT) as (reader, writer):
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await reader.readline()
        for _ in range(int(_COPY_SECONDS * 10)):
            writer.write(b"\0" * _COPY_STEP_OCTETS)
            await writer.drain()
            await asyncio.sleep(0.1)
    await asyncio.sleep(_COPY_EVERY_SECONDS)


async def again(act: Callable[[], Awaitable[None]]) -> NoReturn:
    """Do it for ever, whatever others do."""
    while True:
        try:
            await act()
        except (OSError, TimeoutError, EOFError):
            await asyncio.sleep(_RETRY_SECONDS)


async def main() -> None:
    """All of them."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE  # the certificate is nobody's
    acts: list[Callable[[], Awaitable[None]]] = [copy]
    acts += [lambda number=number: browse(number, tls) for number in range(len(plan.PEOPLE))]  # type: ignore[misc]
    acts += [lambda number=number: watch(number, tls) for number in (2, 7)]  # type: ignore[misc]
    acts += [lambda host=host: ask(host) for host in plan.APPS]  # type: ignore[misc]
    async with asyncio.TaskGroup() as group:
        for act in acts:
            group.create_task(again(act))
        sys.stdout.write("ready\n")
        sys.stdout.flush()


if __name__ == "__main__":
    namespaces.enter(str(namespaces.path_of(plan.OFFICE)))
    asyncio.run(main())
