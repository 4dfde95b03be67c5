"""The kernel program, compiled by bcc on this node: it needs LLVM and kernel headers."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from producer.kernel import environment
from producer.kernel.abi import tunnel_mask
from producer.kernel.child import SeeLogError
from producer.kernel.load.objects import SOURCES
from producer.kernel.load.wanted import Wanted

SOURCE = SOURCES / "ayaflow.bpf.c"


def compiled(wanted: Wanted) -> "BccModule":
    """Raises EnvironmentProblem."""
    bcc = environment.import_bcc()
    environment.check_headers()
    try:
        return BccModule(bcc.BPF(src_file=str(SOURCE), cflags=compiler_flags(wanted)))
    except Exception as error:
        raise SeeLogError(
            f"bcc could not compile the kernel program ({error}). Usually the kernel headers do not fit: "
            "run make setup, or install linux-headers for this kernel, or set capture.loader to object"
        ) from error


def compiler_flags(wanted: Wanted) -> list[str]:
    """What the C files are to be told."""
    return [
        f"-I{SOURCE.parent}",
        f"-DRING_PAGES={wanted.ring_pages}",
        f"-DFLOW_ENTRIES={wanted.flow_entries}",
        f"-DDECAPSULATE={tunnel_mask(wanted.decapsulate)}",
        f"-DINSPECT={wanted.inspect}",
        f"-DCOPY_PAGES={wanted.copy_pages}",
        *["-DREPLAY"] * wanted.replay,
    ]


class BccModule:
    """Obeys wanted.Module."""

    def __init__(self, module: Any) -> None:
        """`module`: a bcc.BPF."""
        self._module = module
        self.maps: Mapping[str, int] = _Maps(module)

    def load(self, name: str) -> int:
        """See Module."""
        try:
            fd: int = self._module.load_func(name, self._module.SCHED_CLS).fd
        except Exception as error:
            raise SeeLogError(
                f"kernel {os.uname().release} refused the program {name} ({error}). ayaflow needs "
                f"Linux {environment.OLDEST_KERNEL} or newer"
            ) from error
        return fd


class _Maps(Mapping[str, int]):
    """Those of a module of bcc, which looks for one when it is asked."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def __getitem__(self, name: str) -> int:
        return int(self._module[name].map_fd)

    def __iter__(self) -> Iterator[str]:
        return iter(self._module)

    def __len__(self) -> int:
        return len(self._module)
