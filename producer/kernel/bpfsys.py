"""The few bpf(2) calls that the steady process makes, by ctypes: bcc would bring LLVM into it; numpy is not needed.

All raise OSError with the call's errno.
"""

import contextlib
import ctypes
import os
import platform
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361}
_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _MAP_DELETE = 0, 1, 2, 3
_PROG_LOAD, _OBJ_PIN, _OBJ_GET, _PROG_TEST_RUN = 5, 6, 7, 10
_PROG_BIND_MAP = 35
_PROG_TYPE_SCHED_CLS = 3
_VERIFIER_LOG_BYTES = 4 << 20
_ATTR_BYTES = 128

MAP_TYPES = {"hash": 1, "array": 2, "prog_array": 3, "percpu_array": 6, "array_of_maps": 12, "ringbuf": 27}
"""The kinds of maps that we know."""

_libc = ctypes.CDLL(None, use_errno=True)


def number() -> int:
    """Of the system call on this machine. Raises OSError."""
    number = _SYSCALL.get(platform.machine())
    if number is None:
        raise OSError(0, f"the number of the bpf system call on {platform.machine()} is not known")
    return number


def bpf(command: int, attributes: bytes, what: str) -> tuple[int, bytes]:
    """The system call -> its result, and the attributes as the kernel left them. `what`: for the error."""
    result, error, raw = bpf_or_errno(command, attributes)
    if error:
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result, raw


def bpf_or_errno(command: int, attributes: bytes) -> tuple[int, int, bytes]:
    """The system call -> its result, the errno (0: there was no error), and the attributes as the kernel left them."""
    buffer = ctypes.create_string_buffer(attributes, _ATTR_BYTES)
    result = _libc.syscall(number(), command, buffer, _ATTR_BYTES)
    return result, ctypes.get_errno() if result < 0 else 0, buffer.raw


@contextlib.contextmanager
def closing(fd: int) -> Iterator[int]:
    """Close a descriptor at the end."""
    try:
        yield fd
    finally:
        os.close(fd)


def obj_pin(fd: int, path: Path) -> None:
    """Give a map or program a name in bpffs."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    bpf(_OBJ_PIN, struct.pack("=QII", ctypes.addressof(name), fd, 0), f"pin {path}")


def obj_get(path: Path) -> int:
    """Open a pinned map or program -> file descriptor."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    return bpf(_OBJ_GET, struct.pack("=QII", ctypes.addressof(name), 0, 0), f"open {path}")[0]


def map_update(fd: int, key: bytes, value: "bytes | npt.NDArray[np.void]") -> None:
    """Set an entry. The value of a per-CPU map has one row a possible CPU, each a multiple of 8 octets."""
    key_buffer = ctypes.create_string_buffer(key, len(key))
    data = value if isinstance(value, bytes) else value.tobytes()
    value_buffer = ctypes.create_string_buffer(data, len(data))
    attributes = struct.pack("=IIQQQ", fd, 0, ctypes.addressof(key_buffer), ctypes.addressof(value_buffer), 0)
    bpf(_MAP_UPDATE, attributes, "map update")


def map_delete(fd: int, key: bytes) -> None:
    """Remove an entry."""
    key_buffer = ctypes.create_string_buffer(key, len(key))
    bpf(_MAP_DELETE, struct.pack("=IIQ", fd, 0, ctypes.addressof(key_buffer)), "map delete")


def map_lookup(fd: int, key: bytes, value_bytes: int) -> bytes:
    """Read an entry of `value_bytes` (of a per-CPU map: rows as in map_update)."""
    key_buffer = ctypes.create_string_buffer(key, len(key))
    value_buffer = ctypes.create_string_buffer(value_bytes)
    attributes = struct.pack("=IIQQQ", fd, 0, ctypes.addressof(key_buffer), ctypes.addressof(value_buffer), 0)
    bpf(_MAP_LOOKUP, attributes, "map lookup")
    return value_buffer.raw


def prog_test_run(fd: int, frame: bytes, context: bytes = b"", repeat: int = 1) -> tuple[int, int]:
    """Run a TC program over a frame -> (its return value as a signed number, mean duration in ns).

    `context` is a struct __sk_buff that is passed in.
    """
    data = ctypes.create_string_buffer(frame, len(frame))
    skb = ctypes.create_string_buffer(context, len(context)) if context else None
    attributes = struct.pack(
        "=IIIIQQIIIIQQ",
        fd,
        0,
        len(frame),
        0,
        ctypes.addressof(data),
        0,
        repeat,
        0,
        len(context),
        0,
        ctypes.addressof(skb) if skb else 0,
        0,
    )
    _, raw = bpf(_PROG_TEST_RUN, attributes, "test run")
    result: int = struct.unpack_from("=i", raw, 4)[0]
    duration: int = struct.unpack_from("=I", raw, 36)[0]
    return result, duration


def map_create(
    name: str,
    value_bytes: int,
    entries: int,
    *,
    kind: str = "array",
    key_bytes: int = 4,
    flags: int = 0,
    inner: int = 0,
) -> int:
    """Make a map -> its descriptor. The name: 15 octets at most. `inner`: descriptor of a map, of an array of maps."""
    attributes = struct.pack(
        "=IIIIIII16s", MAP_TYPES[kind], key_bytes, value_bytes, entries, flags, inner, 0, name.encode()
    )
    return bpf(_MAP_CREATE, attributes, "map create")[0]


def prog_load(name: str, instructions: bytes) -> int:
    """Load a TC program -> its descriptor. The name: 15 octets at most."""
    return _prog_load(name, instructions, None)


def verifier_says(name: str, instructions: bytes) -> str:
    """Why the kernel does not take a program: it is tried again, and the end of what the verifier says comes back."""
    said = ctypes.create_string_buffer(_VERIFIER_LOG_BYTES)
    with contextlib.suppress(OSError):
        os.close(_prog_load(name, instructions, said))
    return said.value.decode("utf-8", "replace")


def _prog_load(name: str, instructions: bytes, said: "ctypes.Array[ctypes.c_char] | None") -> int:
    code = ctypes.create_string_buffer(instructions, len(instructions))
    licence = ctypes.create_string_buffer(b"GPL")
    attributes = struct.pack(
        "=IIQQIIQII16s",
        _PROG_TYPE_SCHED_CLS,
        len(instructions) // 8,
        ctypes.addressof(code),
        ctypes.addressof(licence),
        said is not None,
        len(said) if said is not None else 0,
        ctypes.addressof(said) if said is not None else 0,
        0,
        0,
        name.encode(),
    )
    return bpf(_PROG_LOAD, attributes, "program load")[0]


def prog_bind_map(program: int, map_fd: int) -> None:
    """Keep a map as long as the program, which need not use it."""
    bpf(_PROG_BIND_MAP, struct.pack("=III", program, map_fd, 0), "bind map")


def possible_cpus() -> int:
    """Rows in a value of a per-CPU map."""
    text = Path("/sys/devices/system/cpu/possible").read_text("ascii").strip()
    return int(text.replace("-", ",").split(",")[-1]) + 1
