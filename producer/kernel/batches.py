"""Entries of hash maps by the thousand, as numpy arrays. All raise OSError with the call's errno."""

import ctypes
import errno
import os
import struct

import numpy as np
import numpy.typing as npt

from producer.kernel import bpfsys

_MAP_LOOKUP_BATCH, _MAP_DELETE_BATCH = 24, 27
Records = npt.NDArray[np.void]


def map_read_all(fd: int, key: np.dtype[np.void], value: np.dtype[np.void], most: int) -> tuple[Records, Records]:
    """All entries of a hash map of at most `most` that nobody writes to -> keys and values, in the map's own order."""
    keys, values = np.empty(most, key), np.empty(most, value)  # pages that are not written to take no memory
    place, found, begun = ctypes.create_string_buffer(8), 0, False
    while True:
        attributes = struct.pack(
            "=QQQQIIQQ",
            ctypes.addressof(place) if begun else 0,
            ctypes.addressof(place),
            keys.ctypes.data + found * key.itemsize,
            values.ctypes.data + found * value.itemsize,
            most - found,
            fd,
            0,
            0,
        )
        error, count = _map_batch(_MAP_LOOKUP_BATCH, attributes)
        if error not in {0, errno.ENOENT}:
            raise OSError(error, f"map read: {os.strerror(error)}")
        found, begun = found + count, True
        if error or found == most:  # ENOENT: that was the last
            return keys[:found], values[:found]


def map_delete_all(fd: int, keys: Records) -> None:
    """Remove entries; those that are not there are no error."""
    begin = 0
    keys = np.ascontiguousarray(keys)
    while begin < len(keys):
        rest = keys[begin:]
        attributes = struct.pack("=QQQQIIQQ", 0, 0, rest.ctypes.data, 0, len(rest), fd, 0, 0)
        error, count = _map_batch(_MAP_DELETE_BATCH, attributes)
        if error == errno.ENOENT:
            count += 1  # that one has gone
        elif error:
            raise OSError(error, f"map delete: {os.strerror(error)}")
        begin += count


def _map_batch(command: int, attributes: bytes) -> tuple[int, int]:
    """A batch command -> (errno or 0, number of entries that it handled)."""
    _, error, raw = bpfsys.bpf_or_errno(command, attributes)
    count: int = struct.unpack_from("=I", raw, 32)[0]
    return error, count
