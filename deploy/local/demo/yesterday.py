"""Stores the day before of a demo: once streams is well, `ayaflow replay` reads what past.py makes up.

python -m deploy.local.demo.yesterday DATA_DIR HOST:PORT          of the demo; where its streams answers /health
"""

import os
import signal
import subprocess
import sys
import time
from http.client import HTTPException
from pathlib import Path

from console.health import component
from deploy.local.demo import past, plan
from deploy.local.process import dies_with_parent
from deploy.local.up.processes import settings_file

_LOOK_SECONDS = 0.5


def is_well(listen: str) -> bool:
    """Whether streams says so."""
    try:
        return component(listen, "streams.metrics_listen").ok
    except (OSError, HTTPException, ValueError):
        return False


def main(data_dir: Path, listen: str) -> int:
    """Wait, and store it -> the replay's exit code."""
    while not is_well(listen):
        time.sleep(_LOOK_SECONDS)
    words = ("replay", "-", "--node", plan.PAST_NODE, "--config", str(settings_file(data_dir)))
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "cli.main", *words],
        stdin=subprocess.PIPE,
        preexec_fn=dies_with_parent(signal.SIGKILL),  # noqa: PLW1509  calls nothing that another thread may lock
    )
    assert process.stdin is not None
    try:
        with process.stdin as into:
            for piece in past.capture(time.time()):
                into.write(piece)
    except BrokenPipeError:
        pass  # its code says it
    return process.wait()


if __name__ == "__main__":
    os.nice(10)  # what passes now goes first
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
