"""A bounded mix of traffic between the two hosts: IPv4 and IPv6; UDP, TCP, ICMP, and a protocol without ports.

Run in b: python -m tests.e2e.traffic serve ADDRESS4 ADDRESS6
Run in a: python -m tests.e2e.traffic send OWN4 PEER4 OWN6 PEER6      once; talk: again and again, until it is ended
Run in a: python -m tests.e2e.traffic exchange OWN PEER PORT
"""

import asyncio
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from itertools import count

UDP_PORT, TCP_PORT = 7001, 7002
UDP_SIZES = (2, 30, 100, 512, 1400)
TCP_BYTES = 300_000
PINGS = 5
GRE = 47


async def serve(addresses: list[str]) -> None:
    """Answers each UDP datagram with its first half; sends back all that comes by TCP."""

    class Answer(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport: asyncio.DatagramTransport = transport  # type: ignore[assignment]

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            self.transport.sendto(data[: len(data) // 2], addr)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()

    loop = asyncio.get_running_loop()
    for address in addresses:
        await loop.create_datagram_endpoint(Answer, local_addr=(address, UDP_PORT))
        await asyncio.start_server(echo, address, TCP_PORT)
    print("ready", flush=True)
    await asyncio.Event().wait()


def send(own4: str, peer4: str, own6: str, peer6: str) -> None:
    """All of the traffic, once."""
    for own, peer in ((own4, peer4), (own6, peer6)):
        for i in range(20):
            udp(own, peer, 40_000 + i)
        tcp(own, peer)
        ping(own, peer)
    gre(own4, peer4)


def talk(own4: str, peer4: str, own6: str, peer6: str) -> None:
    """Some of it, ten times a second and more."""
    for i in count():
        own, peer = ((own4, peer4), (own6, peer6))[i % 2]
        for _ in range(5):
            udp(own, peer, 0)
        tcp(own, peer, TCP_BYTES // 10)
        ping(own, peer)
        time.sleep(0.05)


def exchange(own: str, peer: str, port: str) -> None:
    """Datagrams of one flow, each answered, until the standard input ends; prints how many."""
    sent = 0
    with socket.socket(family(own), socket.SOCK_DGRAM) as sock:
        sock.settimeout(60)
        sock.bind((own, int(port)))
        while not select.select([sys.stdin], [], [], 0.02)[0]:
            sock.sendto(b"u" * 100, (peer, UDP_PORT))
            sock.recv(2000)
            sent += 1
    print(sent)


def udp(own: str, peer: str, port: int) -> None:
    with socket.socket(family(own), socket.SOCK_DGRAM) as sock:
        sock.settimeout(60)
        sock.bind((own, port))
        for size in UDP_SIZES:
            sock.sendto(b"u" * size, (peer, UDP_PORT))
            sock.recv(2000)


def tcp(own: str, peer: str, octets: int = TCP_BYTES) -> None:
    with socket.create_connection((peer, TCP_PORT), timeout=60, source_address=(own, 0)) as sock:
        for _ in range(octets // 10_000):
            sock.sendall(b"t" * 10_000)
            left = 10_000
            while left:
                left -= len(sock.recv(left))
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""


def ping(own: str, peer: str) -> None:
    six = ":" in own
    protocol, request, reply = (58, 128, 129) if six else (1, 8, 0)
    with socket.socket(family(own), socket.SOCK_RAW, protocol) as sock:
        sock.settimeout(60)
        sock.bind((own, 0))
        for i in range(PINGS):
            message = struct.pack(">BBHHH", request, 0, 0, 77, i) + b"p" * 200
            if not six:  # for ICMPv6 the kernel does it
                total = sum(struct.unpack(f">{len(message) // 2}H", message))
                total = (total & 0xFFFF) + (total >> 16)
                message = message[:2] + struct.pack(">H", ~total & 0xFFFF) + message[4:]
            sock.sendto(message, (peer, 0))
            while True:  # a raw IPv4 socket gets the header, too
                answer = sock.recv(2000)[0 if six else 20 :]
                if answer[0] == reply and answer[4:8] == struct.pack(">HH", 77, i):
                    break


def gre(own: str, peer: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, GRE) as sock:
        sock.bind((own, 0))
        for i in range(3):
            sock.sendto(struct.pack(">HH", 0, 0x0800) + bytes(20 + i), (peer, 0))


def family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve(sys.argv[2:]))
    else:
        commands: dict[str, Callable[..., None]] = {"send": send, "talk": talk, "exchange": exchange}
        commands[sys.argv[1]](*sys.argv[2:])
