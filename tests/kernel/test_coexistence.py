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

from producer.kernel import bpfsys, child, pins
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
