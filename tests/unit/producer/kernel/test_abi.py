"""abi.py against bytes written out by hand, and against all that the shared C headers declare."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from producer.kernel import abi, pins
from producer.kernel.abi import COPY, EVENT, RECORD, TUNNEL_EVENT, TUNNEL_RECORD, tunnel_mask
from tests.lacking import cannot_run
from tests.unit.producer.kernel.headers import BPF, OF_THE_PROGRAM, SHARED, declared, shared_text

GOLDEN = bytes.fromhex(
    "0807060504030201"  # ktime_ns
    "1817161514131211"  # flow_hash
    "00000000000000000000ffff0a000001"  # src
    "20010db8000000000000000000000002"  # dst
    "dc050000"  # bytes
    "0300"  # slot
    "9602"  # segment_bytes
    "0200"  # packets
    "5704"  # src_port
    "3500"  # dst_port
    "4d00"  # vlan_id
    "1201"  # tcp_flags
    "06"  # protocol
    "01"  # direction
    "3d"  # ttl
    "b8"  # tos
    "2a"  # epoch
    "00"  # flags
)


def test_the_bytes_of_an_event_are_read_field_by_field() -> None:
    (event,) = np.frombuffer(GOLDEN, EVENT)
    assert event["ktime_ns"] == 0x0102030405060708
    assert event["flow_hash"] == 0x1112131415161718
    assert bytes(event["src"]) == bytes(10) + b"\xff\xff\x0a\x00\x00\x01"
    assert bytes(event["dst"]) == bytes.fromhex("20010db8000000000000000000000002")
    assert event["bytes"] == 1500
    assert event["slot"] == 3
    assert event["segment_bytes"] == 662
    assert event["packets"] == 2
    assert event["src_port"] == 1111
    assert event["dst_port"] == 53
    assert event["vlan_id"] == 77
    assert event["tcp_flags"] == 0x112
    assert event["protocol"] == 6
    assert event["direction"] == 1
    assert event["ttl"] == 61
    assert event["tos"] == 0xB8
    assert event["epoch"] == 42
    assert event["flags"] == 0


def test_sizes_are_those_of_the_ring() -> None:
    assert (EVENT.itemsize, len(GOLDEN)) == (72, 72)
    assert RECORD.itemsize == 80
    assert (TUNNEL_EVENT.itemsize, TUNNEL_RECORD.itemsize) == (112, 120)


def test_the_tunnel_follows_the_event() -> None:
    tunnel = bytes.fromhex(
        "00000000000000000000ffff0a000009"  # outer_src
        "20010db8000000000000000000000009"  # outer_dst
        "030201ff"  # tunnel_id
        "05"  # tunnel_type
        "000000"
    )
    (event,) = np.frombuffer(GOLDEN + tunnel, TUNNEL_EVENT)
    assert (event["bytes"], event["flags"], event["tunnel_id"], event["tunnel_type"]) == (1500, 0, 0xFF010203, 5)
    assert bytes(event["outer_src"])[-1:] == bytes(event["outer_dst"])[-1:] == b"\x09"


def test_the_head_of_a_copy_is_read_field_by_field() -> None:
    octets = bytes.fromhex(
        "0807060504030201"  # ktime_ns
        "1817161514131211"  # flow_hash
        "00000000000000000000ffff0a000001"  # src
        "20010db8000000000000000000000002"  # dst
        "04030201"  # seq
        "2a010000"  # epoch
        "5704"  # src_port
        "3500"  # dst_port
        "dc05"  # payload_bytes
        "0002"  # copied
        "0300"  # slot
        "c805"  # fragment_offset
        "11"  # protocol
        "06"  # kind
        "01"  # direction
        "02"  # flags
    )
    (head,) = np.frombuffer(octets, COPY)
    assert (head["ktime_ns"], head["flow_hash"]) == (0x0102030405060708, 0x1112131415161718)
    assert bytes(head["src"]) == bytes(10) + b"\xff\xff\x0a\x00\x00\x01"
    assert bytes(head["dst"])[-1] == 2
    assert (head["seq"], head["epoch"]) == (0x01020304, 298)
    assert (head["src_port"], head["dst_port"]) == (1111, 53)
    assert (head["payload_bytes"], head["copied"], head["fragment_offset"]) == (1500, 512, 1480)
    assert (head["slot"], head["protocol"], head["direction"]) == (3, 17, 1)
    assert (abi.COPY_KINDS[head["kind"]], head["flags"]) == ("FRAGMENT", abi.MORE_FRAGMENTS)


def test_a_bit_of_the_mask_is_the_number_of_a_tunnel() -> None:
    assert tunnel_mask(["vxlan", "gtpu", "vxlan"]) == 1 << 1 | 1 << 5


def _leaves(kind: np.dtype[Any], begin: int = 0) -> list[tuple[str, int, int]]:
    """(name, offset, octets) of all members that are no structs."""
    found = []
    for name in kind.names or ():
        inner, offset = kind.fields[name][:2]  # type: ignore[index]
        inside = _leaves(inner, begin + offset)
        found += inside or [(name, begin + offset, inner.itemsize)]
    return found


def differences(text: str, *, tunnels: bool, inspects: bool) -> list[str]:
    """What a C text declares and abi.py lacks, or has otherwise."""
    c = declared(text, {"DECAPSULATE": int(tunnels), "INSPECT": int(inspects)})
    python = abi.structs(tunnels=tunnels, inspects=inspects)
    found = [f"struct {name}" for name in c.structs.keys() ^ python.keys()]
    for name in c.structs.keys() & python.keys():
        ours = [(_IN_C.get(leaf, leaf), *place) for leaf, *place in _leaves(python[name])]
        theirs = [(each.path.rpartition(".")[2], each.offset, each.octets) for each in c.structs[name].members]
        octets = sum(each.octets for each in c.structs[name].members)
        if ours != theirs or not python[name].itemsize == c.structs[name].octets == octets:  # no padding
            found.append(f"struct {name}")
    found += [f"enum {name}" for name in c.enums.keys() | abi.ENUMS.keys() if c.enums.get(name) != abi.ENUMS.get(name)]
    return found + [name for name, value in c.constants.items() if getattr(abi, name, None) != value]


_IN_C = {"min_packet_bytes": "smallest", "max_packet_bytes": "largest"}  # names that Avro has, too


@pytest.mark.parametrize("tunnels", [False, True])
@pytest.mark.parametrize("inspects", [False, True])
def test_all_structs_enums_and_constants_of_the_shared_headers_are_those_of_python(
    tunnels: bool, inspects: bool
) -> None:
    assert not differences(shared_text(), tunnels=tunnels, inspects=inspects)


@pytest.mark.parametrize(
    ("line", "by", "told"),
    [
        ("TCP_DNS };", "TCP_DNS, DTLS };", "enum copy_kind"),
        ("u64 skipped_over_budget_packets;", "", "struct counters"),
        ("struct state {", "struct new { u32 number; };\nstruct state {", "struct new"),
        ("#define EGRESS 1", "#define EGRESS 1\n#define MIRRORED (1 << 2)", "MIRRORED"),
        ("#define MAX_INTERFACES 512", "#define MAX_INTERFACES 1024", "MAX_INTERFACES"),
        ("IPIP, GTPU }", "IPIP, GTPU, ERSPAN }", "enum tunnel_type"),
        ("enum tunnel_type {", "enum way { IN, OUT };\nenum tunnel_type {", "enum way"),
        ("u8 direction;  ", "u8 way;  ", "struct packet_event"),
        ("u64 flow_hash;\n    u32 second;", "u32 second;\n    u64 flow_hash;", "struct coalesced_key"),
        ("u32 flags;\n    u32 namespace;", "u32 flags, new;\n    u32 namespace;", "struct interface"),
        ("u32 smallest, largest;", "u32 largest, smallest;", "struct packet_sizes"),
        ("u64 refused; ", "u32 refused; ", "struct replay_state"),
        ("#define REPLAY_FRAME_MASK 0x3fff", "#define REPLAY_FRAME_MASK 0x7fff", "REPLAY_FRAME_MASK"),
    ],
)
def test_what_a_header_gets_and_python_does_not_is_told(line: str, by: str, told: str) -> None:
    text = shared_text()
    assert text.count(line) == 1
    assert told in differences(text.replace(line, by), tunnels=True, inspects=True)


def test_each_header_is_shared_or_the_program_s_own() -> None:
    assert {path.name for path in BPF.glob("*.h")} == {*SHARED, *OF_THE_PROGRAM}


def test_what_is_pinned_is_a_map_of_the_program() -> None:
    text = (BPF / "ayaflow.bpf.c").read_text()
    tables = re.findall(r"^BPF_(?:F_)?TABLE\([^,]*,[^,]*,[^,]*, (\w+)", text, re.MULTILINE)
    tables += re.findall(
        r"^BPF_(?:PERCPU_ARRAY|PROG_ARRAY|ARRAY|RINGBUF_OUTPUT|ARRAY_OF_MAPS)\((\w+)", text, re.MULTILINE
    )
    assert {*pins.MAPS, pins.COPIES} <= set(tables)


@pytest.mark.parametrize("tunnels", [0, 1])
@pytest.mark.parametrize("inspects", [0, 1])
def test_the_compiler_puts_members_where_we_read_them(tunnels: int, inspects: int, tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        cannot_run("no C compiler: install gcc; the other tests read the headers themselves")
    c = declared(shared_text(), {"DECAPSULATE": tunnels, "INSPECT": inspects})
    kinds = {name: f"{'union' if name in c.unions else 'struct'} {name}" for name in c.structs}
    values = {f"sizeof({kinds[name]})": kind.octets for name, kind in c.structs.items()}
    for name, kind in c.structs.items():
        values |= {f"offsetof({kinds[name]}, {each.path})": each.offset for each in kind.members}
        values |= {f"sizeof((({kinds[name]} *)0)->{each.path})": each.octets for each in kind.members}
    values |= c.constants
    checks = "\n".join(f'_Static_assert({what} == {value}, "{what}");' for what, value in values.items())
    includes = "\n".join(f'#include "{BPF / name}"' for name in SHARED)
    source = tmp_path / "places.c"
    source.write_text(
        "#include <stddef.h>\n#include <stdint.h>\ntypedef uint64_t u64; typedef uint32_t u32; typedef uint16_t u16;\n"
        f"typedef uint8_t u8;\n#define BPF_F_TABLE(...)\n{includes}\n{checks}\n"
    )
    told = [f"-DDECAPSULATE={tunnels}", f"-DINSPECT={inspects}"]
    command = [compiler, "-std=gnu11", "-fsyntax-only", *told, str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
