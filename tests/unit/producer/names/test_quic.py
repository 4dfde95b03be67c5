"""QUIC's first packets: by the keys that RFC 9001 and 9369 print, and packets that are made by them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.names.parsers import quic
from producer.names.parsers.quic import frames, initials
from tests.unit.producer.names.making import crypto, initial, number

DESTINATION = bytes.fromhex("8394c8f03e515708")


@pytest.mark.parametrize(
    ("family", "key", "iv", "mask"),
    [
        (1, "1f369613dd76d5467730efcbe3b1a22d", "fa044b2f42a3fd3b46fb255c", "9f50449e04a0e810283a1e9933adedd2"),
        (
            0x6B3343CF,
            "8b1a0bc121284290a29e0971b5cd045d",
            "91f73e2351d8fa91660e909f",
            "45b95e15235d6f45a6b19cbcb0294ba9",
        ),
    ],
)
def test_keys_are_those_that_the_rfcs_print(family: int, key: str, iv: str, mask: str) -> None:
    found = quic._keys(family, DESTINATION)
    assert (found.key.hex(), f"{found.iv:024x}", found.mask.hex()) == (key, iv, mask)


def test_the_packet_of_rfc_9001_begins_as_it_prints() -> None:
    """A.2: its header is protected to c000000001088394c8f03e5157080000449e7b9aec34."""
    hello = bytes.fromhex(
        "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c00000413011302010000c000000010000e00000b6578616d706c652e636f6dff01000100000a00080006001d0017001800100007000504616c706e000500050100000000003300260024001d00209370b2c9caa47fbabaf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b0003020304000d0010000e0403050306030203080408050806002d00020101001c00024001003900320408ffffffffffffffff05048000ffff07048000ffff0801100104800075300901100f088394c8f03e51570806048000ffff"
    )
    packet = initial(hello)
    assert packet[:22].hex() == "c000000001088394c8f03e5157080000449e7b9aec34"
    (found,) = initials(packet)
    read = frames(found, DESTINATION)
    assert read is not None
    assert read.is_genuine
    assert read.pieces == [(0, hello[4:])]


@pytest.mark.parametrize(
    "version", [1, 0x6B3343CF, 0x709A50C4, 0xFF00001D, 0xFF000020, 0xFF00001B, 0xFF000016, 0xFACEB002, 0x1A2A3A4A]
)
@given(
    st.lists(st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=60)), max_size=8), st.binary(max_size=20)
)
def test_frames_of_each_version_come_out_as_they_went_in(
    version: int, sent: list[tuple[int, bytes]], token: bytes
) -> None:
    ack = b"\x02" + number(5) + number(0) + number(1) + number(0) + number(2) + number(3)
    payload = (b"\0\1" + ack).join(crypto(offset, octets) for offset, octets in sent)
    (found,) = initials(initial(payload, version=version, token=token))
    read = frames(found, DESTINATION)
    assert read is not None
    assert read.pieces == sent


def test_a_packet_with_other_keys_is_not_believed() -> None:
    (found,) = initials(initial(crypto(0, b"hello"), keys_of=b"otherkey"))
    assert frames(found, DESTINATION) is None
    read = frames(found, b"otherkey")
    assert read is not None
    assert read.pieces == [(0, b"hello")]


@pytest.mark.parametrize("flipped", [0, 5, 12, 30, 1190])
def test_one_wrong_bit_is_seen(flipped: int) -> None:
    packet = bytearray(initial(crypto(0, b"hello")))
    packet[flipped] ^= 1
    assert all(frames(found, DESTINATION) is None for found in initials(bytes(packet)))


def test_what_was_cut_is_read_as_far_as_it_goes() -> None:
    packet = initial(crypto(0, bytes(range(200))) + crypto(200, b"x" * 100))
    (found,) = initials(packet[:150])
    read = frames(found, DESTINATION)
    assert read is not None
    assert not read.is_genuine
    assert len(read.pieces) == 1
    assert bytes(range(200)).startswith(read.pieces[0][1])
    assert len(read.pieces[0][1]) > 100


def test_several_packets_of_a_datagram() -> None:
    first, second = initial(crypto(0, b"one"), least=0), initial(crypto(3, b"two"), packet_number=3)
    handshake = b"\xe3\0\0\0\1\x08" + DESTINATION + b"\0" + number(30) + bytes(30)
    found = list(initials(first + handshake + second))
    assert [frames(packet, DESTINATION).pieces for packet in found] == [[(0, b"one")], [(3, b"two")]]  # type: ignore[union-attr]


# --- what public bug reports are about


@pytest.mark.parametrize(
    "datagram",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xc3", id="one octet"),
        pytest.param(b"\xc3\0\0\0\1\xff" + bytes(1200), id="a connection id of 255 octets"),
        pytest.param(b"\xc3\0\0\0\1\x08" + DESTINATION + b"\x15" + bytes(1200), id="a source id of 21 octets"),
        pytest.param(
            b"\xc3\0\0\0\1\x08" + DESTINATION + b"\0" + b"\xff" * 8 + bytes(1200), id="a token of 2^62 octets"
        ),
        pytest.param(
            b"\xc3\0\0\0\1\x08" + DESTINATION + b"\0\x7f\xff" + bytes(1200), id="a token longer than the datagram"
        ),
        pytest.param(b"\xc3\0\0\0\1\x08" + DESTINATION + b"\0\0\0" + bytes(1200), id="a length of 0"),
        pytest.param(b"\xc3\0\0\0\1\x08" + DESTINATION + b"\0\0\x13" + bytes(1200), id="a length below a tag's"),
        pytest.param(b"\xf0\0\0\0\1\x08" + DESTINATION + bytes(1200), id="a Retry"),
        pytest.param(b"\xc3\0\0\0\0\x08" + DESTINATION + bytes(1200), id="a version negotiation"),
        pytest.param(b"\xc3\xfa\xce\xb0\xff"[:5] + bytes(1200), id="another's version"),
        pytest.param(b"\x43" + bytes(1200), id="a short header"),
    ],
)
def test_what_cannot_be_an_initial_gives_no_frames(datagram: bytes) -> None:
    assert not [read for found in initials(datagram) if (read := frames(found, found.destination_id)) and read.pieces]


def test_a_length_beyond_the_datagram_is_a_cut_packet() -> None:
    packet = bytearray(initial(crypto(0, b"hello"), least=0))
    at = packet.index((len(packet) - 18 | 0x4000).to_bytes(2, "big"))
    packet[at : at + 2] = b"\x7f\xff"
    (found,) = initials(bytes(packet))
    assert not found.is_whole


def test_thousands_of_frames_are_not_all_read() -> None:
    (found,) = initials(initial(crypto(0, b"") * 400, least=0))
    read = frames(found, DESTINATION)
    assert read is not None
    assert len(read.pieces) == 64


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"\x06" + b"\xff" * 8 + b"\x01a", id="an offset of 2^62"),
        pytest.param(b"\x02\0\0" + b"\xff" * 8, id="2^62 ranges of an acknowledgement"),
        pytest.param(b"\x08hello", id="a frame of another kind"),
        pytest.param(b"\x1c\0\0\0", id="closed"),
    ],
)
def test_frames_that_lie_give_nothing(payload: bytes) -> None:
    (found,) = initials(initial(payload))
    read = frames(found, DESTINATION)
    assert read is None or read.pieces == []
