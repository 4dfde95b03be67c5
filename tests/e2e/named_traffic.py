"""Traffic that has names: DNS, TLS and HTTP between the two hosts.

Run in b: python -m tests.e2e.named_traffic serve ADDRESS DOMAIN
Run in a: python -m tests.e2e.named_traffic fetch SERVER DOMAIN ROUNDS
"""

import contextlib
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.rrset

DNS_PORT, TLS_PORT, HTTP_PORT, PLAIN_PORT = 53, 443, 80, 7_100
BODY = 200_000  # octets of an answer


def names(domain: str) -> tuple[str, str, str]:
    """What is fetched by TLS, by HTTP, and by a protocol that says no name: only DNS has its one."""
    return f"www.{domain}", f"files.{domain}", f"plain.{domain}"


def serve(address: str, domain: str) -> None:
    """Answers until it is ended; `ready` is printed when all listen."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind((address, DNS_PORT))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*_certificate(directory))
        listeners = {
            port: stack.enter_context(socket.create_server((address, port)))
            for port in (TLS_PORT, HTTP_PORT, PLAIN_PORT)
        }
        for port, listener in listeners.items():
            tls = context if port == TLS_PORT else None
            threading.Thread(target=_give, args=(listener, tls), daemon=True).start()
        print("ready", flush=True)
        _answer(udp, address, domain)


def _certificate(directory: Path) -> tuple[Path, Path]:
    """Of a subject that says nothing: what is looked for is what clients say."""
    certificate, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=x", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


def _answer(udp: socket.socket, address: str, domain: str) -> None:
    """`silent.DOMAIN` gets no answer, `nowhere.DOMAIN` NXDOMAIN, all else the address of this host."""
    while True:
        octets, client = udp.recvfrom(65_535)
        question = dns.message.from_wire(octets)
        asked = question.question[0].name.to_text(omit_final_dot=True).lower()
        if asked == f"silent.{domain}":
            continue
        response = dns.message.make_response(question)
        if asked == f"nowhere.{domain}":
            response.set_rcode(dns.rcode.NXDOMAIN)
        else:
            response.answer.append(dns.rrset.from_text(question.question[0].name, 300, "IN", "A", address))
        udp.sendto(response.to_wire(), client)


def _give(listener: socket.socket, tls: ssl.SSLContext | None) -> None:
    while True:
        plain, _ = listener.accept()
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            connection = stack.enter_context(plain)
            if tls:
                connection = stack.enter_context(tls.wrap_socket(plain, server_side=True))
            connection.recv(65_535)
            connection.sendall(b"x" * BODY)


def fetch(server: str, domain: str, rounds: int) -> None:
    """Resolve and fetch each, again and again."""
    by_tls, by_http, by_none = names(domain)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for _ in range(rounds):
        _take(_resolve(server, by_tls), TLS_PORT, context, by_tls)
        _take(_resolve(server, by_http), HTTP_PORT, None, by_http)
        _take(_resolve(server, by_none), PLAIN_PORT, None, "")
        _resolve(server, f"nowhere.{domain}")
        _resolve(server, f"silent.{domain}")
    print("done", flush=True)


def _resolve(server: str, name: str) -> str:
    with contextlib.suppress(dns.exception.Timeout):
        response = dns.query.udp(dns.message.make_query(name, "A"), server, timeout=0.3)
        for answer in response.answer:
            return str(answer[0].to_text())
    return ""


def _take(address: str, port: int, tls: ssl.SSLContext | None, name: str) -> None:
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(socket.create_connection((address, port), timeout=20))
        if tls:
            connection = stack.enter_context(tls.wrap_socket(connection, server_hostname=name))
        host = f"Host: {name}\r\n" if name else ""
        connection.sendall(f"GET / HTTP/1.1\r\n{host}\r\n".encode() if port != PLAIN_PORT else b"give\n")
        while connection.recv(65_536):
            pass


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:4])
    else:
        fetch(sys.argv[2], sys.argv[3], int(sys.argv[4]))
