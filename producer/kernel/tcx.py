"""TCX (Linux 6.6): programs on interfaces, each held by a link; and what a link, program or map says of itself.

Attaching and asking by ifindex mean the network namespace of this thread. All raise OSError with the call's errno.
"""

import ctypes
import errno
import struct
from dataclasses import dataclass

from producer.kernel.bpfsys import bpf

TCX = (46, 47)
"""Where a program is attached to an interface: enum bpf_attach_type of ingress and egress."""
MOST_TCX = 63
"""Programs that the kernel takes at one place."""
_PROG_FD_BY_ID, _MAP_FD_BY_ID, _OBJ_INFO, _PROG_QUERY = 13, 14, 15, 16
_LINK_CREATE, _LINK_UPDATE, _LINK_FD_BY_ID, _LINK_DETACH = 28, 29, 30, 34
_LINK_TYPE_TCX = 11
_LOOPBACK = 1  # its ifindex, in each namespace
_F_BEFORE = 1 << 3  # with nothing that it is before: first of all
_INFO_BYTES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """The TCX programs at one place of an interface, in the order in which they run."""

    programs: tuple[int, ...]  # ids
    links: tuple[int, ...]  # ids, of the same programs; 0: attached without one


def is_known() -> bool:
    """Whether this kernel has TCX. Raises PermissionError."""
    try:
        query(_LOOPBACK, TCX[0])
    except PermissionError:
        raise
    except OSError as error:
        return error.errno != errno.EINVAL
    return True


def query(ifindex: int, place: int) -> Attached:
    """What is attached to an interface; `place`: of TCX."""
    programs, links = (ctypes.c_uint32 * MOST_TCX)(), (ctypes.c_uint32 * MOST_TCX)()
    attributes = struct.pack(
        "=IIIIQIIQQQ", ifindex, place, 0, 0, ctypes.addressof(programs), MOST_TCX, 0, 0, ctypes.addressof(links), 0
    )
    _, raw = bpf(_PROG_QUERY, attributes, "TCX query")
    count: int = struct.unpack_from("=I", raw, 24)[0]
    return Attached(programs=tuple(programs[:count]), links=tuple(links[:count]))


def attach(program: int, ifindex: int, place: int) -> int:
    """Attach to an interface, before all others -> descriptor of the link.

    It is detached when its last descriptor and pin go.
    """
    attributes = struct.pack("=IIIIIIQ", program, ifindex, place, _F_BEFORE, 0, 0, 0)
    return bpf(_LINK_CREATE, attributes, "TCX attach")[0]


def update(link: int, program: int) -> None:
    """Put a program in the place of the link's own, in one step."""
    bpf(_LINK_UPDATE, struct.pack("=IIII", link, program, 0, 0), "link update")


def detach(link: int) -> None:
    """Detach from wherever the interface is now. What has gone already is no error."""
    try:
        bpf(_LINK_DETACH, struct.pack("=I", link), "link detach")
    except OSError as error:
        if error.errno != errno.ENOLINK:
            raise


def link_by_id(number: int) -> int:
    """Descriptor of a link."""
    return bpf(_LINK_FD_BY_ID, struct.pack("=III", number, 0, 0), f"open link {number}")[0]


def prog_by_id(number: int) -> int:
    """Descriptor of a program."""
    return bpf(_PROG_FD_BY_ID, struct.pack("=III", number, 0, 0), f"open program {number}")[0]


def map_by_id(number: int) -> int:
    """Descriptor of a map."""
    return bpf(_MAP_FD_BY_ID, struct.pack("=III", number, 0, 0), f"open map {number}")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link of a TCX program."""

    number: int
    program: int  # id
    ifindex: int  # in whichever namespace the interface is; 0: it has gone


def describe(fd: int) -> Link | None:
    """What a link is; None: of another kind."""
    kind, number, program, _, ifindex = struct.unpack_from("=IIIII", _info(fd, bytes(_INFO_BYTES)))
    return Link(number=number, program=program, ifindex=ifindex) if kind == _LINK_TYPE_TCX else None


def prog_name_and_maps(fd: int) -> tuple[str, tuple[int, ...]]:
    """A program's name, and the ids of its maps."""
    ids = (ctypes.c_uint32 * 64)()
    asked = struct.pack("=52xIQ", len(ids), ctypes.addressof(ids)).ljust(_INFO_BYTES, b"\0")
    raw = _info(fd, asked)
    count = min(struct.unpack_from("=I", raw, 52)[0], len(ids))
    return _name(raw[64:80]), tuple(ids[:count])


def map_name_and_size(fd: int) -> tuple[str, int]:
    """A map's name, and the octets of a value."""
    raw = _info(fd, bytes(_INFO_BYTES))
    return _name(raw[24:40]), struct.unpack_from("=I", raw, 12)[0]


def _info(fd: int, asked: bytes) -> bytes:
    """The kernel's description of a link, program or map."""
    info = ctypes.create_string_buffer(asked, len(asked))
    bpf(_OBJ_INFO, struct.pack("=IIQ", fd, len(asked), ctypes.addressof(info)), "describe")
    return info.raw


def _name(octets: bytes) -> str:
    return octets.split(b"\0", 1)[0].decode("utf-8", "replace")
