"""The world of the demo: a resolver, web servers, a database, what takes backups; and somebody who scans.

python -m deploy.local.demo.world FOLDER          run in its namespace; says `ready`, ends when it is ended
"""

import asyncio
import contextlib
import ssl
import struct
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from deploy.local.demo import messages, plan
from producer.interfaces import namespaces

_SCAN_SECONDS = 45.0
_BLOCK = b"\0" * 65_536
_REFUSED = (OSError, TimeoutError, EOFError, ValueError, IndexError)
"""What a peer that goes away, or talks nonsense, comes to."""


class Resolver(asyncio.DatagramProtocol):
    """Knows the names of the plan, and no others."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep how to answer."""
        self._transport: asyncio.DatagramTransport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer; what is no question gets none."""
        with contextlib.suppress(ValueError):
            self._transport.sendto(messages.answer(data, plan.NAMES.get(messages.name_of(data))), addr)


async def give(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """HTTP/1.1: `GET /OCTETS` gets so many, one request after another."""
    with contextlib.suppress(*_REFUSED):
        while head := await reader.readuntil(b"\r\n\r\n"):
            left = int(head.split(b" ", 2)[1].strip(b"/"))
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {left}\r\n\r\n".encode())
            while left:
                writer.write(_BLOCK[: min(left, len(_BLOCK))])
                left -= min(left, len(_BLOCK))
                await writer.drain()
    writer.close()


async def answer_queries(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As PostgreSQL: after a start-up message, so many rows for each `Q` message as it ends with."""
    with contextlib.suppress(*_REFUSED):
        await reader.readexactly(struct.unpack(">I", await reader.readexactly(4))[0] - 4)
        writer.write(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I")
        while True:
            _, length = struct.unpack(">cI", await reader.readexactly(5))
            query = await reader.readexactly(length - 4)
            row = b"D\0\0\0\x5a\0\1\0\0\0\x50" + b"r" * 80
            writer.write(row * int(query.rstrip(b"\0").rpartition(b" ")[2]) + b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I")
            await writer.drain()
    writer.close()


async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As an SSH server that is copied to."""
    with contextlib.suppress(*_REFUSED):
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        while await reader.read(1 << 18):
            pass
    writer.close()


async def scan() -> None:
    """Knock at many ports of all hosts, again and again; nobody answers but with a reset."""
    while True:
        await asyncio.sleep(_SCAN_SECONDS)
        for host in plan.PEOPLE:
            for port in plan.SCANNED_PORTS:
                with contextlib.suppress(*_REFUSED):
                    async with asyncio.timeout(0.5):
                        _, writer = await asyncio.open_connection(host, port, local_addr=(plan.SCANNER, 0))
                    writer.close()
            await asyncio.sleep(0.2)


def certificate(folder: Path) -> ssl.SSLContext:
    """Of a key that is made here and belongs to nobody."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ayaflow demo")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    file = folder / "demo.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    file.unlink()
    return context


async def main(folder: Path) -> None:
    """All of them."""
    await asyncio.get_running_loop().create_datagram_endpoint(Resolver, local_addr=(plan.RESOLVER, plan.DNS_PORT))
    tls = certificate(folder)
    for host in ("0.0.0.0", "::"):  # noqa: S104  of a namespace that nobody else is in
        await asyncio.start_server(give, host, plan.HTTPS_PORT, ssl=tls)
        await asyncio.start_server(give, host, plan.HTTP_PORT)
    await asyncio.start_server(answer_queries, plan.DATABASE, plan.POSTGRESQL_PORT)
    await asyncio.start_server(take, plan.BACKUP, plan.SSH_PORT)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await scan()


if __name__ == "__main__":
    namespaces.enter(str(namespaces.path_of(plan.WORLD)))
    asyncio.run(main(Path(sys.argv[1])))
