"""Removes what a demo that was killed has left: it waits until all of its processes have ended, then does.

    python -m deploy.local.demo.guard FOLDER MADE          standard input: the demo's mount namespace, then its end

MADE: a folder that the demo has made, which is removed if nothing is in it; an empty word: none. What the demo mounts
and names goes with its last process; only the folder with its data would stay.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from common.stopping import ignore_signals

PATIENCE_SECONDS = 60.0
"""In which all parts end that see their parent gone."""
_LOOK_SECONDS = 0.2


def members(namespace: str) -> list[int]:
    """Processes in a mount namespace, such as `mnt:[4026531840]`."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):  # it ended
            if entry.name.isdigit() and str((entry / "ns/mnt").readlink()) == namespace:
                found.append(int(entry.name))
    return found


def end(namespace: str) -> None:
    """Wait until nobody is in it; who does not end by himself is ended."""
    patience = time.monotonic() + PATIENCE_SECONDS
    while left := members(namespace):
        if time.monotonic() > patience:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(_LOOK_SECONDS)


def main(folder: Path, made: str) -> None:
    """Until the demo is gone, and what it left."""
    ignore_signals()
    namespace = sys.stdin.readline().strip()
    sys.stdin.read()
    if folder.exists():
        if namespace and namespace != str(Path("/proc/self/ns/mnt").readlink()):
            end(namespace)
        shutil.rmtree(folder, ignore_errors=True)
    if made:
        with contextlib.suppress(OSError):
            Path(made).rmdir()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
