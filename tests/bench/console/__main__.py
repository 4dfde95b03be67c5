"""How long the console's answers take over many stored flows, and what it costs: `python -m tests.bench.console`.

Makes the flows inside an embedded ClickHouse of its own (INSERT SELECT from numbers(), so that the rollups are filled
by their views as always), starts a console beside it, and asks each kind of question several times over HTTP. With
Kafka's jars it also runs the live view with many clients. Writes a table to standard output.

    python -m tests.bench.console --rows 50000000 --days 7 [--data-dir DIR] [--repeat 7] [--live]

With --data-dir the flows stay there, and the next run asks them again without making them.
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.bench.console.flows import fill
from tests.bench.console.live import feed, live
from tests.bench.console.questions import measure, questions
from tests.bench.process import peak_rss_mb, rss_mb
from tests.bench.results import machine
from tests.fix_local import REPOSITORY, free_port, running_clickhouse, running_kafka, temporary_directory


@contextlib.contextmanager
def running_console(clickhouse: str, kafka: str) -> Iterator[tuple[str, int]]:
    """A console as `ayaflow console` runs it -> (url, process id)."""
    port = free_port()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "cli.main",
            "console",
            "--log-level",
            "error",
            "--set",
            f"console.listen=127.0.0.1:{port}",
            "--set",
            "console.query_seconds=120",
            "--set",
            f"clickhouse.url={clickhouse}",
            "--set",
            f"kafka.bootstrap_servers={kafka}",
        ],
        cwd=REPOSITORY,
    )
    try:
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait(30)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000_000)
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--only", default="", help="questions whose name has this in it")
    parser.add_argument("--live", action="store_true", help="the live view, instead of the stored flows")
    chosen = parser.parse_args()
    with contextlib.ExitStack() as stack:
        directory = chosen.data_dir or stack.enter_context(temporary_directory())
        directory.mkdir(parents=True, exist_ok=True)
        clickhouse, server = stack.enter_context(running_clickhouse(directory))
        print(", ".join(machine().values()))
        if chosen.live:
            kafka, _ = stack.enter_context(running_kafka(directory))
            url, console = stack.enter_context(running_console(clickhouse, kafka))
            feeding = multiprocessing.get_context("spawn").Process(target=feed, args=(kafka,), daemon=True)
            feeding.start()
            for each in (1.0, 5.0):
                took = asyncio.run(live(url, 100, each, 20))
                p50, p95, p99 = (1000 * took[int(len(took) * part)] for part in (0.5, 0.95, 0.99))
                print(
                    f"/api/live, 100 clients, {100 * each:.0f} requests/s: {len(took)} answers,"
                    f" p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms, largest {1000 * took[-1]:.1f} ms"
                )
        else:
            until = fill(clickhouse, chosen.rows, chosen.days)
            url, console = stack.enter_context(running_console(clickhouse, "127.0.0.1:1"))
            print("\n| question | ClickHouse CPU, ms | fastest, ms | p50, ms | p95, ms | answer, kB |")
            print("|---|---:|---:|---:|---:|---:|")
            asked = [one for one in questions(until) if chosen.only in one[0]]
            asyncio.run(measure(url, server.pid, asked, chosen.repeat, lambda line: print(line, flush=True)))
        for name, pid in (("ClickHouse", server.pid), ("console", console)):
            print(f"{name}: {rss_mb(pid):.0f} MB resident, {peak_rss_mb(pid):.0f} MB at most")
    return 0


if __name__ == "__main__":
    sys.exit(main())
