"""Folders that outlive a loss of power: a new name is on disk when the folder that holds it is."""

import contextlib
import os
from pathlib import Path


def make(folder: Path) -> None:
    """Make the folder and those above it, where they are missing, for its owner alone. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for above in (folder.parent, folder.parent.parent):  # each time: whoever made it may have been killed before this
        with contextlib.suppress(PermissionError):  # who may not read it has made nothing in it
            sync(above)


def sync(folder: Path) -> None:
    """Wait until all names in it are on disk. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
