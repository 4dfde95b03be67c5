"""`ayaflow rewindow` and others as processes of their own, and a time that nobody writes to any more."""

import signal
import subprocess
import sys
import time

from tests.fix_local import REPOSITORY, WRITER_SETTINGS, environment
from tests.integration.fix_streams import Pipeline
from tests.waiting import HANG_SECONDS


def noon() -> int:
    """Of the day before yesterday: nobody writes to that day."""
    return (int(time.time()) // 86_400 - 2) * 86_400 + 43_200


def command(p: Pipeline, *words: str) -> subprocess.Popen[str]:
    """`ayaflow …` beside a pipeline."""
    return subprocess.Popen(
        [sys.executable, "-c", _ENTRY, *words],
        cwd=REPOSITORY,
        env=environment(
            data_dir=p.directory,
            kafka_bootstrap_servers=p.kafka,
            kafka_topic_prefix=p.prefix,
            clickhouse_url=p.clickhouse,
            clickhouse_database=p.database,
            streams_app_id=p.database,
            **WRITER_SETTINGS,
        ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


_ENTRY = "import sys; from cli.main import main; sys.exit(main(sys.argv[1:]))"


def ran(p: Pipeline, *words: str, code: int = 0) -> str:
    """`ayaflow …` to its end -> what it said."""
    process = command(p, *words)
    said, _ = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == code, said
    return said


def finished(p: Pipeline, *words: str) -> None:
    """`ayaflow rewindow … --into`, to its end, unless one before it was there."""
    said, _ = (process := command(p, *words)).communicate(timeout=HANG_SECONDS)
    assert process.returncode == 0 or "already" in said, said


def killed(p: Pipeline, seconds: float, *words: str) -> bool:
    """`ayaflow …`, killed after some time -> whether it was still running."""
    process = command(p, *words)
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return True
    assert process.returncode == 0 or "already" in said, said  # one before it was quick enough
    return False
