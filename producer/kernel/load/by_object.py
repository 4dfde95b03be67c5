"""The kernel program as an object that was compiled before: it needs neither LLVM nor kernel headers, only bpf(2)."""

import errno
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from common.errors import DecodeError, EnvironmentProblem
from producer.kernel import bpfsys
from producer.kernel.abi import tunnel_mask
from producer.kernel.child import SeeLogError
from producer.kernel.load import elf, objects, permission
from producer.kernel.load.wanted import Wanted

_NAME_BYTES = 15  # of a map or program, in the kernel


def loaded(wanted: Wanted, folder: Path = objects.OBJECTS) -> "ObjectModule":
    """Make the maps of the object that fits -> what loads its programs. Raises EnvironmentProblem."""
    name = objects.name(tunnels=bool(wanted.decapsulate), inspects=bool(wanted.inspect), replay=wanted.replay)
    found = read(folder / name)
    page = os.sysconf("SC_PAGE_SIZE")
    sizes = {"events": wanted.ring_pages * page, "copies": wanted.copy_pages * page}
    sizes |= dict.fromkeys(("flows_a", "flows_b"), wanted.flow_entries)
    numbers = {"opened_tunnels": tunnel_mask(wanted.decapsulate), "copied_bytes": wanted.inspect}
    maps: dict[str, int] = {}
    for each in found.maps:
        try:
            maps[each.name] = bpfsys.map_create(
                each.name[:_NAME_BYTES],
                each.value_bytes,
                each.entries or sizes[each.name],
                kind=each.kind,
                key_bytes=each.key_bytes,
                flags=each.flags,
                inner=maps[each.inner] if each.inner else 0,
            )
        except OSError as error:
            raise EnvironmentProblem(permission.refusal(f"the map {each.name}", error)) from error
    return ObjectModule(found, maps, numbers)


def read(path: Path) -> elf.Object:
    """An object that fits the C program beside it. Raises EnvironmentProblem."""
    try:
        found = elf.read(path.read_bytes())
    except (OSError, DecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise EnvironmentProblem(f"{path}: {why}; {objects.INSTALL}, or set capture.loader to bcc") from error
    if found.stamp != objects.stamp():
        raise EnvironmentProblem(f"{path} was compiled from other sources than those beside it; {objects.INSTALL}")
    return found


class ObjectModule:
    """Obeys wanted.Module."""

    def __init__(self, found: elf.Object, maps: Mapping[str, int], numbers: Mapping[str, int]) -> None:
        self._object, self.maps, self._numbers = found, maps, numbers

    def load(self, name: str) -> int:
        """See Module."""
        code = self._object.programs[name].linked(self.maps, self._numbers)
        try:
            return bpfsys.prog_load(name[:_NAME_BYTES], code)
        except OSError as error:
            if error.errno != errno.EPERM:
                sys.stderr.write(bpfsys.verifier_says(name[:_NAME_BYTES], code))
            raise SeeLogError(permission.refusal(f"the program {name}", error)) from error
