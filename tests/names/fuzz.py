"""Changed and random messages to each parser: nothing may read or write where it must not, hang, grow, or raise.

    python -m tests.names.fuzz [INPUTS [RANDOM]]

The C parsers run in a program of their own with the sanitizers of addresses and undefined behaviour, and once more as
they are built for use; the Python ones and NameReader, over all of them, here.
"""

import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import dns.message
import dns.rrset

from producer.kernel.abi import MORE_FRAGMENTS
from producer.names.copies import CONTINUATION, DNS, FRAGMENT, HTTP, QUIC, TCP, TCP_DNS, TLS, UDP
from producer.names.ech import EchConfigs
from producer.names.join import DomainTable
from producer.names.limits import Limits
from producer.names.parsers import http, quic
from producer.names.reader import NameReader
from producer.names.redact import Redaction
from tests.unit.producer.names.copying import CLIENT, SERVER, Sent, read
from tests.unit.producer.names.making import client_hello, crypto, initial, records, vector, with_ech

FUZZ = Path(__file__).with_name("fuzz.c")
SANITIZED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
PLAIN = ("-O3",)
SLOWEST_C_MICROSECONDS = 20_000  # of one input, with sanitizers and on a busy machine
SLOWEST_NS = 500_000_000  # of one input, or batch, of Python
GROWTH_BYTES = 64 << 20
_EXTREMES = (0, 1, 0x3F, 0x40, 0x7F, 0x80, 0xC0, 0xFF)
_BATCH = 256


def dns_seeds() -> list[bytes]:
    """Messages of all kinds, as they should be."""
    found = []
    for kind, said in (
        ("A", ["192.0.2.1", "192.0.2.2"]),
        ("AAAA", ["2001:db8::1"]),
        ("CNAME", ["edge.example.net."]),
        ("MX", ["10 mail.example.org."]),
        ("SRV", ["0 5 5060 sip.example.org."]),
        ("TXT", ['"text"']),
        ("HTTPS", ['1 svc.example.net. alpn="h3" ipv4hint="192.0.2.7" ipv6hint="2001:db8::7"']),
    ):
        query = dns.message.make_query(f"www.{kind}.example.org", kind, use_edns=True)
        answer = dns.message.make_response(query)
        answer.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", kind, *said))
        found += [query.to_wire(), answer.to_wire()]
    return found


def seeds() -> dict[str, list[bytes]]:
    """By what they are."""
    messages = dns_seeds()
    hello = client_hello(padding=300)
    configs = vector(
        b"\xfe\x0d" + vector(b"\x01\0\x20" + vector(bytes(32), 2) + vector(bytes(4), 2) + b"\0\1x\0\0", 2), 2
    )
    return {
        "dns": messages,
        "tcp dns": [b"".join(vector(message, 2) for message in messages[at : at + 3]) for at in range(8)],
        "hello": [records(hello), records(hello, 100), hello, with_ech(b"a.example"), records(client_hello(None))],
        "quic": [
            initial(crypto(0, hello)),
            initial(crypto(0, hello[:200]) + crypto(200, hello[200:]), version=0x6B3343CF),
            initial(crypto(0, hello), version=0xFF00001D, token=b"token"),
            initial(crypto(0, hello), least=0) + initial(crypto(0, b"x"), least=0),
        ],
        "http": [
            b"GET / HTTP/1.1\r\nHost: www.example.org\r\nAccept: */*\r\n\r\n",
            b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n",
        ],
        "ech": [configs, configs * 2],
    }


class Changing:
    """Valid inputs with up to five changes, and now and then only noise."""

    def __init__(self, valid: Sequence[bytes], number: int) -> None:
        self._valid, self._random = valid, random.Random(number)

    def __call__(self) -> bytes:
        chance = self._random
        if chance.random() < 0.02:
            return chance.randbytes(chance.randrange(600))
        octets = bytearray(chance.choice(self._valid))
        for _ in range(chance.randrange(6)):
            self._change(octets)
        return bytes(octets[:2048])

    def _change(self, octets: bytearray) -> None:
        chance = self._random
        at, size = chance.randrange(len(octets) + 1), chance.randrange(1, 17)
        match chance.randrange(8):
            case 0 if octets:
                octets[at - 1] ^= 1 << chance.randrange(8)
            case 1 if octets:
                octets[at - 1] = chance.choice(_EXTREMES)
            case 2:
                octets[at : at + 2] = bytes(chance.choices(_EXTREMES, k=2))
            case 3:
                del octets[at:]
            case 4:
                del octets[at : at + size]
            case 5:
                octets[at:at] = octets[at : at + size]
            case 6:
                octets[at:] = chance.choice(self._valid)[at:]
            case _:
                octets[at : at + size] = chance.randbytes(size)


@dataclass(frozen=True, slots=True)
class Ran:
    """What one parser took."""

    inputs: int
    longest_us: int
    grown_bytes: int


def in_c(parser: str, inputs: int, number: int, flags: Sequence[str]) -> Ran:
    """dns or hello, in a program of its own. Raises CalledProcessError with what the sanitizer says."""
    with tempfile.TemporaryDirectory() as folder:
        program, valid = Path(folder) / "fuzz", Path(folder) / "seeds"
        subprocess.run(
            ["gcc", *flags, "-Wall", "-Wextra", "-Werror", f"-DFUZZ_DNS={int(parser == 'dns')}", "-o", program, FUZZ],
            check=True,
        )
        chosen = seeds()[parser] + (seeds()["tcp dns"] if parser == "dns" else [])
        valid.write_bytes(b"".join(len(seed).to_bytes(4, sys.byteorder) + seed for seed in chosen))
        done = subprocess.run([program, valid, str(inputs), str(number)], check=True, capture_output=True, text=True)
        return Ran(inputs, int(done.stdout), 0)


def in_python(run: Callable[[], int], inputs: int) -> Ran:
    """Calls until that many inputs were read; `run` says how many it took."""
    before, taken, longest = _resident(), 0, 0
    while taken < inputs:
        begun = time.thread_time_ns()
        taken += run()
        longest = max(longest, time.thread_time_ns() - begun)
    return Ran(taken, longest // 1000, _resident() - before)


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def quic_datagrams(number: int) -> Callable[[], int]:
    made = Changing(seeds()["quic"], number)

    def run() -> int:
        for found in quic.initials(made()):
            frames = quic.frames(found, found.destination_id)
            assert frames is None or sum(len(octets) for _, octets in frames.pieces) <= 2048
        return 1

    return run


def requests(number: int) -> Callable[[], int]:
    made = Changing(seeds()["http"], number)

    def run() -> int:
        found = http.request(made())
        assert found is None or (found.host.isprintable() and len(found.host) <= 255)
        return 1

    return run


def configurations(number: int) -> Callable[[], int]:
    made, configs = Changing(seeds()["ech"], number), EchConfigs()

    def run() -> int:
        configs.learn(made())
        assert len(configs._known) <= 1024
        return 1

    return run


def copies(number: int) -> Callable[[], int]:
    """All kinds through a NameReader, into a DomainTable and a Redaction: each copy is accounted for at any time."""
    chance = random.Random(number)
    valid = seeds()
    kinds = {
        kind: Changing(valid[name], number + kind)
        for kind, name in (
            (DNS, "dns"), (TCP_DNS, "tcp dns"), (TLS, "hello"), (CONTINUATION, "hello"), (QUIC, "quic"), (HTTP, "http")
        )
    }  # fmt: skip
    kinds[FRAGMENT] = Changing([bytes(8) + seed for seed in valid["dns"] + valid["quic"]], number)
    reader, table, redaction = NameReader(Limits(flows=64)), DomainTable(most=2048), Redaction(mode="hash", key=b"key")
    total = rows = clock = 0

    def run() -> int:
        nonlocal total, rows, clock
        sent = []
        for _ in range(_BATCH):
            kind = chance.choice([*kinds, 77])
            octets = kinds.get(kind, kinds[DNS])()
            clock += chance.randrange(2_000_000)
            one = Sent(
                octets=octets,
                kind=kind,
                src_port=chance.choice([53, 443, 5353, 5355, 40_000, 40_001, chance.randrange(65_536)]),
                dst_port=chance.choice([53, 443, 5353, chance.randrange(65_536)]),
                protocol=TCP if kind in (TCP_DNS, TLS, CONTINUATION, HTTP) or chance.random() < 0.05 else UDP,
                seq=chance.choice([0, 1, 500, 1000, 2**32 - 1, chance.randrange(2**32)]),
                time_ns=clock,
                on_wire=len(octets) + chance.choice([0, 0, 1, 60_000]),
                fragment_offset=8 * chance.randrange(40) if kind == FRAGMENT else 0,
                flags=chance.choice([0, MORE_FRAGMENTS]),
                src=chance.choice([CLIENT, "2001:db8::9"]),
                dst=chance.choice([SERVER, "203.0.113.7"]),
            )
            sent.append(one)
        names = read(reader, *sent)
        expired = reader.expire(clock)
        for found in (names, expired):
            table.learn(found)
            redaction.names(found)
            rows += int(found.rows["copies"].sum())
            assert all(name.isascii() and name.isprintable() for name in found.names)
        total += len(sent)
        assert rows + reader.unused + reader.open == total
        assert len(table) <= 2 * 2048
        return len(sent)

    return run


PYTHON = {"quic": quic_datagrams, "http": requests, "ech": configurations, "reader": copies}


def check(name: str, ran: Ran, slowest_us: int | None = None) -> None:
    print(
        f"{name}: {ran.inputs:,} inputs, longest {ran.longest_us:,} us, grown by {ran.grown_bytes >> 20} MB", flush=True
    )
    assert slowest_us is None or ran.longest_us <= slowest_us, name
    assert ran.grown_bytes <= GROWTH_BYTES, name


def main(inputs: int = 5_000_000, number: int = 1) -> None:
    for parser in ("dns", "hello"):
        for flags, label in ((SANITIZED, "sanitized"), (PLAIN, "as built")):
            check(f"{parser}.c {label}", in_c(parser, inputs, number, flags), SLOWEST_C_MICROSECONDS)
    for name, made in PYTHON.items():
        check(name, in_python(made(number), inputs), SLOWEST_NS // 1000)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
