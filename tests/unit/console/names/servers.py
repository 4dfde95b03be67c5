"""DNS servers of the tests: real sockets, and what they answer is up to the test."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

Answers = Callable[[dns.message.Message], list[bytes]]
"""A question to the datagrams that are sent back."""


@dataclass(slots=True)
class Server:
    """One that runs."""

    at: str  # ADDRESS:PORT
    asked: list[str] = field(default_factory=list)  # names, in order


@contextlib.contextmanager
def serving(answers: Answers, family: int = socket.AF_INET) -> Iterator[Server]:
    """A DNS server on a loopback address, until the end of `with`."""
    with socket.socket(family, socket.SOCK_DGRAM) as listener:
        listener.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        listener.settimeout(0.05)
        host, port = listener.getsockname()[:2]
        server = Server(at=f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                with contextlib.suppress(TimeoutError):
                    octets, client = listener.recvfrom(65_535)
                    question = dns.message.from_wire(octets)
                    server.asked.append(question.question[0].name.to_text())
                    for datagram in answers(question):
                        listener.sendto(datagram, client)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            done.set()
            thread.join(5)


def ptr(question: dns.message.Message, *names: str, ttl: int = 300) -> dns.message.Message:
    """The answer with these names; NXDOMAIN without one."""
    response = dns.message.make_response(question)
    if names:
        asked = question.question[0].name
        response.answer.append(dns.rrset.from_text(asked, ttl, "IN", "PTR", *names))
    else:
        response.set_rcode(dns.rcode.NXDOMAIN)
    return response


def nothing(_question: dns.message.Message) -> list[bytes]:
    """A server that never answers."""
    return []
