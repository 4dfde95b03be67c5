"""What surrounds an installation: things that others do to it, each with a beginning and an end, in seeded order."""

import contextlib
import os
import random
import socket
import struct
import subprocess
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from schemas.avro.codec import Codec
from schemas.packets import PacketBatch
from schemas.topics import TopicNames
from tests.faults.installation import CLICKHOUSE, PRODUCER, Installation
from tests.faults.proxy import Proxy
from tests.faults.traffic import Totals
from tests.fix_local import WRITER
from tests.hostile import poison
from tests.hostile.strangers import NAMES, Stranger
from tests.kernel import veth
from tests.kernel.attached import detach, hooks

End = Callable[[], None]
YEAR = 365 * 86_400
FIRST_PORT = 20_000  # of what is sent on interfaces that come and go
FIRST_SCHEMA = 1_000_000  # of ids that no registry has given
MOST_PARTITIONS = 8
SHOWN_SECONDS = 60  # in which an interface that came is watched; it ends what hangs


@dataclass(slots=True, eq=False)
class Neighbourhood:
    """An installation and those who live around it."""

    system: Installation
    registry: Proxy  # in front of the schema registry
    dice: random.Random
    codec: Codec
    topics: TopicNames
    strangers: Counter[str] = field(default_factory=Counter)  # packets by node
    sent: Totals = field(default_factory=dict)  # on interfaces that come and go, by port
    partitions: int = 4
    happened: list[str] = field(default_factory=list)
    spans: list[tuple[str, float, float]] = field(default_factory=list)  # name, and from when to when it lasted
    _numbers: Iterator[int] = field(default_factory=lambda: iter(range(1_000_000)))
    _index: int = 5000  # of the next interface

    def number(self) -> int:
        """One that was not used yet."""
        return next(self._numbers)

    # what is written to Kafka

    @contextlib.contextmanager
    def writer(self) -> Iterator[Producer]:
        """Somebody who may write; all is delivered behind the block."""
        client = Producer(
            {
                "bootstrap.servers": self.system.kafka,
                "log_level": 0,
                "compression.type": "zstd",
                "message.max.bytes": 30_000_000,
                "message.timeout.ms": 120_000,
                "partitioner": "murmur2_random",
            }
        )
        yield client
        assert client.flush(120) == 0

    def send(self, batches: list[PacketBatch]) -> None:
        """As their nodes' producers send them."""
        with self.writer() as client:
            for each in batches:
                client.produce(self.topics.packets, value=self.codec.encode_packet_batch(each), key=each.node.encode())
                client.poll(0)

    def stranger(self, *strangers: Stranger, count: int = 8) -> None:
        """These nodes send what they have seen, and end."""
        for each in strangers:
            self.send([*each.batches(count), each.end()])
            self.strangers[each.name] += each.packets

    # interfaces

    def index(self) -> int:
        """Of a new interface; the next one is its peer's."""
        index, self._index = self._index, self._index + 2
        return index

    def is_watched(self, interface: str) -> bool:
        return interface in self.system.health(PRODUCER).get("interfaces", ())

    def until_watched(self, interface: str) -> None:
        """Wait until an interface is watched and our hooks are on it, both."""
        end = time.monotonic() + SHOWN_SECONDS
        while not (self.is_watched(interface) and len(hooks(interface)) == 2):
            assert time.monotonic() < end, f"{interface} is not watched: {self.system.health(PRODUCER)}"
            self.system.mind(0.2)

    @contextlib.contextmanager
    def cable(self) -> Iterator[tuple[str, str]]:
        """An interface to send into, and one that is to be watched; what was sent is counted before they go."""
        number = self.number()
        name, peer = f"hw{number}", f"hv{number}"
        _batch(_pair(name, peer, self.index()))
        try:
            yield name, peer
            self.system.mind(2)
        finally:
            _batch([f"link del {name}"])

    def frames(self, interface: str, count: int = 50) -> None:
        """Send packets that must be found again."""
        port = FIRST_PORT + self.number()
        frame = _udp(port)
        veth.send(interface, *[frame] * count)
        self.sent[port] = (count, count * len(frame))

    # ClickHouse

    def execute(self, sql: str) -> None:
        """As somebody who may."""
        user = {"user": WRITER["username"], "password": WRITER["password"]}
        query = urllib.parse.urlencode({"database": "ayaflow", **user})
        asked = urllib.request.Request(f"http://127.0.0.1:{CLICKHOUSE}/?{query}", data=sql.encode())
        with urllib.request.urlopen(asked, timeout=120):
            pass


def _batch(lines: list[str]) -> None:
    """Many commands of `ip` at once, so that nobody sees the moments in between."""
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True, capture_output=True)


def _pair(name: str, peer: str, index: int) -> list[str]:
    """What makes a cable: what `name` sends `peer` receives."""
    return [
        f"link add {name} index {index} type veth peer name {peer} index {index + 1}",
        *(f"link set {each} arp off addrgenmode none up" for each in (name, peer)),
    ]


def _udp(port: int) -> bytes:
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether

    return bytes(
        Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
        / IP(src="10.9.0.1", dst="10.9.0.2")
        / UDP(sport=port, dport=9)
        / bytes(20)
    )


def nothing() -> None:
    """Of what has no end."""


def poison_of_all_sizes(here: Neighbourhood) -> End:
    """Under a stranger's key, the node's own, an empty one and none, in every partition."""
    with here.writer() as client:
        for value in poison.packets(here.codec):
            key = here.dice.choice((b"poison", here.system.node.encode(), b"", None, b"k" * 50_000))
            partition = here.dice.randrange(here.partitions)
            client.produce(here.topics.packets, value=value, key=key, partition=partition)
            client.flush(60)  # one message, one request: each is compressed for itself
    return nothing


def lies_about_now(here: Neighbourhood) -> End:
    """Live statistics of impossible times, with names that do harm."""
    with here.writer() as client:
        for value in poison.live(here.codec):
            client.produce(here.topics.live, value=value, key=b"liar")
        for other in poison.packets(here.codec)[:8]:
            client.produce(here.topics.flows, value=other, key=b"liar")
    return nothing


def clocks_that_are_wrong(here: Neighbourhood) -> End:
    """A node an hour, a day, a year, a generation ahead; one a day behind; one whose clock steps."""
    now, number = time.time(), here.number()
    here.stranger(
        *(
            Stranger(f"clock-{number}-{name}", now + seconds, seed=number)
            for name, seconds in (
                ("hour-ahead", 3600),
                ("day-ahead", 86_400),
                ("year-ahead", YEAR),
                ("generation-ahead", 30 * YEAR),
                ("day-behind", -86_400),
            )
        )
    )
    stepping = Stranger(f"clock-{number}-steps", now, seed=number)
    for seconds in (3600, -7200, 3600, -60, 60):
        here.send(stepping.batches(4))
        stepping.step(seconds)
    here.send([stepping.end()])
    here.strangers[stepping.name] += stepping.packets
    return nothing


def names_that_do_harm(here: Neighbourhood) -> End:
    """Nodes and interfaces; all of them are stored as they are."""
    now = time.time()
    for each in here.dice.sample(NAMES, 4):
        name = f"{here.number()}{each}"
        here.stranger(Stranger(name, now, interface=each[:200]), count=2)
    return nothing


def partitions_are_added(here: Neighbourhood) -> End:
    """One more for the packets topic: keys move."""
    if here.partitions < MOST_PARTITIONS:
        here.partitions += 1
        admin = _admin(here)  # to be held until it is done
        wanted = NewPartitions(here.topics.packets, here.partitions)
        admin.create_partitions([wanted])[here.topics.packets].result(60)
    return nothing


def an_output_topic_is_deleted(here: Neighbourhood) -> End:
    """Flows, live statistics or dead letters; streams makes it again."""
    topic = here.dice.choice((here.topics.flows, here.topics.live, here.topics.dead_letter))
    admin = _admin(here)
    with contextlib.suppress(KafkaException):  # it is being deleted or made already
        admin.delete_topics([topic])[topic].result(60)
    return nothing


def _admin(here: Neighbourhood) -> AdminClient:
    return AdminClient({"bootstrap.servers": here.system.kafka, "log_level": 0})


def the_registry_is_silent(here: Neighbourhood) -> End:
    """It accepts, and does not answer; meanwhile a message comes of which only the registry could know the schema."""
    here.registry.mode = "hang"
    with here.writer() as client:
        value = struct.pack(">bI", 0, FIRST_SCHEMA + here.number()) + bytes(100)
        client.produce(here.topics.packets, value=value, key=here.system.node.encode())

    def end() -> None:
        here.registry.mode = ""

    return end


def clickhouse_is_silent(here: Neighbourhood) -> End:
    """Streams' inserts hang in the middle."""
    here.system.proxy.mode = "hang"

    def end() -> None:
        here.system.proxy.mode = ""

    return end


def a_window_is_refused(here: Neighbourhood) -> End:
    """ClickHouse does not take the windows of one node; those of others wait for nothing."""
    name = f"refused-{here.number()}"
    here.execute(f"ALTER TABLE flows ADD CONSTRAINT hostile CHECK NOT startsWith(node, '{name}')")
    here.stranger(Stranger(name, time.time()))
    return lambda: here.execute("ALTER TABLE flows DROP CONSTRAINT hostile")


def an_interface_comes_anew(here: Neighbourhood) -> End:
    """Deleted and made again with the same name and index, within one look, beside other news."""
    with here.cable() as (name, peer):
        here.until_watched(peer)
        here.frames(name)
        here.system.mind(1)  # what it has seen is its own
        index = socket.if_nametoindex(name)
        _batch(["link set lo mtu 65535", f"link del {name}", *_pair(name, peer, index), "link set lo mtu 65536"])
        here.until_watched(peer)
        here.frames(name)
    return nothing


def an_ingress_qdisc_is_there_first(here: Neighbourhood) -> End:
    """As the bandwidth plugin of containers makes it; and it can be added beside our hooks."""
    with here.cable() as (name, peer):
        veth.tc("qdisc", "add", "dev", peer, "handle", "ffff:", "ingress")
        here.until_watched(peer)
        here.frames(name)
    with here.cable() as (name, peer):
        here.until_watched(peer)
        veth.tc("qdisc", "add", "dev", peer, "handle", "ffff:", "ingress")
        here.frames(name)
        veth.tc("qdisc", "del", "dev", peer, "ingress")
        here.frames(name)
    return nothing


def our_hooks_are_removed(here: Neighbourhood) -> End:
    """By somebody who may, behind our back; they come back, and nothing had passed meanwhile."""
    with here.cable() as (name, peer):
        here.until_watched(peer)
        here.frames(name)
        for direction in (0, 1):
            detach(peer, direction)
        assert not hooks(peer)
        here.until_watched(peer)
        here.frames(name)
    return nothing


def an_interface_has_a_name_that_does_harm(here: Neighbourhood) -> End:
    """Linux lets an interface be called nearly anything."""
    for octets in (b"hv\x1b[31m", b"hv\xff\xfe", "hv\u202egpj".encode(), b"hv'\"`$x"):
        name = os.fsdecode(octets)
        subprocess.run(
            ["ip", "link", "add", "hwx", "index", str(here.index()), "type", "veth", "peer", "name", name], check=True
        )
        try:
            _batch(["link set hwx arp off addrgenmode none up"])
            subprocess.run(["ip", "link", "set", name, "arp", "off", "addrgenmode", "none", "up"], check=True)
            end = time.monotonic() + SHOWN_SECONDS
            while len(hooks(name)) < 2:
                assert time.monotonic() < end, f"{octets!r} is not watched: {here.system.health(PRODUCER)}"
                here.system.mind(0.2)
            here.system.mind(0.5)  # it is told to the kernel program a moment later
            here.frames("hwx")
            here.system.mind(2)
        finally:
            _batch(["link del hwx"])
    return nothing


def two_nodes_have_one_name(here: Neighbourhood) -> End:
    """Two machines made of one image."""
    name, now = f"twin-{here.number()}", time.time()
    twins = [Stranger(name, now, seed=ring_id, ring_id=ring_id) for ring_id in (7, 8)]
    for _ in range(8):
        for each in twins:
            here.send(each.batches(1))
    here.send([each.end() for each in twins])
    here.strangers[name] += sum(each.packets for each in twins)
    return nothing


ACTS: dict[str, Callable[[Neighbourhood], End]] = {
    "poison of all sizes": poison_of_all_sizes,
    "lies about now": lies_about_now,
    "clocks that are wrong": clocks_that_are_wrong,
    "names that do harm": names_that_do_harm,
    "partitions are added": partitions_are_added,
    "an output topic is deleted": an_output_topic_is_deleted,
    "the registry is silent": the_registry_is_silent,
    "ClickHouse is silent": clickhouse_is_silent,
    "a window is refused": a_window_is_refused,
    "an interface comes anew": an_interface_comes_anew,
    "an ingress qdisc is there first": an_ingress_qdisc_is_there_first,
    "our hooks are removed": our_hooks_are_removed,
    "an interface has a name that does harm": an_interface_has_a_name_that_does_harm,
    "two nodes have one name": two_nodes_have_one_name,
}

STANDSTILLS = {"the registry is silent", "ClickHouse is silent", "a window is refused"}
"""Something is not stored while these last."""
