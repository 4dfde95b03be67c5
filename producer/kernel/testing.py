"""Plain files instead of pinned maps, which can be mapped as well, and a child that makes them."""

import mmap
import os
from pathlib import Path
from typing import Any

from producer.kernel.abi import STATE_PAGE
from producer.kernel.child import Answer
from producer.kernel.pins import COPIES, MAPS, PROGRAMS


def open_file(path: Path) -> int:
    """Obeys producer.kernel.run.OpenPin."""
    return os.open(path, os.O_RDWR)


def pin_files(directory: Path, ring_bytes: int, copies_bytes: int = 0) -> None:
    """What a loaded program leaves in a node's folder."""
    directory.mkdir(parents=True, exist_ok=True)
    rings = {"events": ring_bytes} | ({COPIES: copies_bytes} if copies_bytes else {})
    for name in {*MAPS, *PROGRAMS, *rings}:
        size = 2 * mmap.PAGESIZE + 2 * rings[name] if name in rings else STATE_PAGE.itemsize
        (directory / name).write_bytes(bytes(size))


class MemoryCall:
    """Obeys producer.kernel.child.Call: loads plain files, detaches what it is told is attached."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.attached: list[str] = []

    def __call__(self, command: str, request: dict[str, Any], *, log: Path) -> Answer:
        self.asked.append((command, request))
        if command == "load":
            pages = request["ring_pages"], request["copy_pages"]
            pin_files(Path(request["pin_directory"]), *(count * mmap.PAGESIZE for count in pages))
            return Answer(values={"opened_ns": 7})
        removed, self.attached = self.attached, []
        return Answer(values={"removed": removed})
