"""DNS transactions and hellos in two segments over a pair of interfaces, at a steady rate."""

import threading
import time
from itertools import count

from scapy.layers.inet import IP, TCP, UDP
from scapy.packet import Raw

from tests.kernel import veth
from tests.kernel.name_frames import CLIENT, ETHER, SERVER, answer, query
from tests.unit.producer.names.making import client_hello, records


class Resolver:
    """Sends DNS transactions and hellos in two segments over a pair at a steady rate; each has a name of its own."""

    def __init__(self, pair: tuple[str, str], rate: int) -> None:
        self._pair, self._rate = pair, rate
        self.names: list[str] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)

    def _send(self) -> None:
        due = time.monotonic()
        for number in count():
            if self._ended.is_set():
                return
            dns, tls = f"d{number}.example", f"t{number}.example"
            veth.send(self._pair[0], *_dns(dns, number), *_tls(tls, number))
            self.names += [dns, tls]
            due += 1 / self._rate
            time.sleep(max(0.0, due - time.monotonic()))

    def __enter__(self) -> "Resolver":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


COPIES = 4
"""Of the packets that a DNS transaction and a hello take."""


def _dns(name: str, number: int) -> list[bytes]:
    port = 10_000 + number % 20_000
    there, back = UDP(sport=port, dport=53), UDP(sport=53, dport=port)
    return [
        bytes(ETHER / IP(src=CLIENT, dst=SERVER) / there / Raw(query(name))),
        bytes(ETHER / IP(src=SERVER, dst=CLIENT) / back / Raw(answer(name))),
    ]


def _tls(name: str, number: int) -> list[bytes]:
    whole, ip = records(client_hello(name.encode())), IP(src=CLIENT, dst=SERVER)
    port, isn = 10_000 + number % 20_000, 1 + number * 100_000 % 2**32
    return [
        bytes(ETHER / ip / TCP(sport=port, dport=443, flags="S", seq=isn)),
        bytes(ETHER / ip / TCP(sport=port, dport=443, flags="PA", seq=isn + 1) / Raw(whole[:90])),
        bytes(ETHER / ip / TCP(sport=port, dport=443, flags="PA", seq=isn + 91) / Raw(whole[90:])),
    ]
