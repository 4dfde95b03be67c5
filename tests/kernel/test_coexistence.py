"""TCX programs of others, before and after ours: they stay, they see every packet, and so do we."""

import platform
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import UDP
from scapy.packet import Raw

from producer.kernel import bpfsys, child, pins, tcx
from producer.kernel.bpfsys import closing
from tests.kernel import veth
from tests.kernel.attached import programs
from tests.kernel.frames import V4
from tests.kernel.harness import Program

pytestmark = pytest.mark.root

SOURCE = b"""
#include <uapi/linux/bpf.h>
BPF_ARRAY(seen, u64, 1);
int counts(struct __sk_buff *skb)
{
    int zero = 0;
    u64 *count = seen.lookup(&zero);
    if (count)
        __sync_fetch_and_add(count, 1);
    return -1;      /* TCX_NEXT */
}
"""
PROG_ATTACH, PROG_DETACH = 8, 9
TCX_INGRESS, TCX_EGRESS = 46, 47
REPLACED = 0


def _bpf(command: int, attributes: bytes) -> None:
    bpfsys.bpf(command, attributes, f"bpf command {command}")


class Foreign:
    """A TCX program that counts."""

    def __init__(self, interface: str, kind: int) -> None:
        import bcc

        self._module = bcc.BPF(text=SOURCE)
        self._fd = self._module.load_func(b"counts", bcc.BPF.SCHED_CLS).fd
        self._where = (socket.if_nametoindex(interface), self._fd, kind)
        _bpf(PROG_ATTACH, struct.pack("=IIII", *self._where, REPLACED))

    @property
    def seen(self) -> int:
        return int(struct.unpack("=Q", bpfsys.map_lookup(self._module[b"seen"].map_fd, bytes(4), 8))[0])

    def detach(self) -> None:
        _bpf(PROG_DETACH, struct.pack("=III", *self._where))
        self._module.cleanup()


@pytest.fixture
def cable(bpffs: Path) -> Iterator[tuple[str, str]]:
    with veth.pair() as names:
        try:
            Foreign(names[0], TCX_EGRESS).detach()
        except OSError as error:
            pytest.skip(f"kernel {platform.release()} has no TCX: {error}")
        yield names


def test_tcx_programs_before_and_after_ours_see_what_we_see_and_stay(
    cable: tuple[str, str], bpffs: Path, tmp_path: Path
) -> None:
    a, b = cable
    directory = pins.node_directory(bpffs, "tcx-test")
    foreign: list[Any] = [Foreign(a, TCX_EGRESS), Foreign(b, TCX_INGRESS)]
    program = Program(directory, tmp_path / "k.log", interfaces=(a, b))
    try:
        foreign += [Foreign(a, TCX_EGRESS), Foreign(b, TCX_INGRESS)]
        assert programs(a, 1) == ["ayaflow_e0", "counts", "counts"]
        assert programs(b, 0) == ["ayaflow_i1", "counts", "counts"]
        frame = bytes(V4 / UDP(sport=1111, dport=53) / Raw(bytes(30)))
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as tap:
            tap.bind((b, 0))
            tap.settimeout(5)
            for _ in range(10):
                veth.send(a, frame)
                assert tap.recv(2000) == frame
        assert [each.seen for each in foreign] == [10] * 4
        assert len(program.take_events()) == 20
        child.run("detach", {"node": program.node}, log=tmp_path / "d.log")
        assert programs(a, 1) == programs(b, 0) == ["counts", "counts"]
        veth.send(a, frame)
        assert [each.seen for each in foreign] == [11] * 4
    finally:
        child.run("detach", {"node": program.node}, log=tmp_path / "d.log")
        for each in foreign:
            each.detach()
        program.close()
        pins.remove(directory)


PASSING = b"""
#include <uapi/linux/bpf.h>
BPF_ARRAY(found, u32, 2);
int says(struct __sk_buff *skb)
{
    skb->tc_classid = 0x1234;
    skb->cb[0] = 0x5678;
    return -1;
}
int hears(struct __sk_buff *skb)
{
    int classid = 0, cb = 1;
    u32 *first = found.lookup(&classid), *second = found.lookup(&cb);
    if (first)
        *first = skb->tc_classid;
    if (second)
        *second = skb->cb[0];
    return -1;
}
"""


def test_what_one_program_leaves_in_the_buffer_for_another_passes_ours(
    cable: tuple[str, str], bpffs: Path, tmp_path: Path
) -> None:
    import bcc

    a, b = cable
    module = bcc.BPF(text=PASSING)
    directory = pins.node_directory(bpffs, "tcx-buffer")

    def attached(name: bytes) -> int:
        return tcx.attach(module.load_func(name, bcc.BPF.SCHED_CLS).fd, socket.if_nametoindex(b), TCX_INGRESS)

    with closing(attached(b"hears")):
        program = Program(directory, tmp_path / "k.log", interfaces=(a, b))
        try:
            with closing(attached(b"says")):
                assert programs(b, 0) == ["says", "ayaflow_i1", "hears"]
                veth.send(a, bytes(V4 / UDP(sport=1111, dport=53) / Raw(bytes(30))))
                table = module[b"found"].map_fd
                heard = [struct.unpack("=I", bpfsys.map_lookup(table, struct.pack("=I", key), 4))[0] for key in (0, 1)]
                assert heard == [0x1234, 0x5678]
        finally:
            child.run("detach", {"node": program.node}, log=tmp_path / "d.log")
            program.close()
            pins.remove(directory)
    module.cleanup()
