"""What a process behind the fence still reads of itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[5]

BEHIND_IT = """
import os, sys, threading
from pathlib import Path
from deploy.local.clickhouse import fence
if not fence.close(Path(sys.argv[1])):
    sys.exit("no Landlock")

def told(name):
    try:
        return Path("/proc/thread-self", name).read_bytes().strip(b"\\0").decode()
    except OSError as error:
        return error.strerror

def look():
    print(len(told("schedstat").split()), repr(told("environ")), told("mem"), told("root/etc/hostname"), sep="|")

look()
thread = threading.Thread(target=look)
thread.start()
thread.join()
print(os.environ["AYAFLOW_OF_THE_TEST"])
"""


def test_a_thread_reads_what_it_used_of_the_cpu_and_no_secret(tmp_path: Path) -> None:
    """ClickHouse throws where it cannot read the first, with each query."""
    done = subprocess.run(
        [sys.executable, "-c", BEHIND_IT, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "AYAFLOW_OF_THE_TEST": "a secret"},
        capture_output=True,
        text=True,
        check=False,
    )
    if "no Landlock" in done.stderr:
        pytest.skip("this kernel has no Landlock")
    *threads, kept = done.stdout.splitlines()
    assert threads == ["3|''|Input/output error|Permission denied"] * 2
    assert kept == "a secret", "libraries still find what they look for"
