"""Runs benchmarks: prints a table of each and writes docs/benchmarks/NAME.json.

Run: python -m tests.bench [NAME ...] [--format table|json] [--no-write]; as root. `make bench` runs all.
"""

import argparse
import importlib
import os
import sys
import time

from tests.bench import readme
from tests.bench.results import Result, machine, table

NAMES = {
    "kernel": "the kernel program, above an empty one",
    "inspect": "what it costs the kernel program to look for names, and to copy what may hold one",
    "producer": "the producer process, from the ring to Kafka's acknowledgement",
    "names": "parsers of names, and what a busy node's names take of the producer",
    "streams": "decoding, windows, rows into ClickHouse",
    "consume": "ayaflow.consume: topics to columns",
    "obvious": "against a plain Faust app with one PacketEvent a message",
    "bytes": "size in Kafka and in ClickHouse on a realistic mix",
    "history": "the tables at volume: bytes by column, questions, other layouts",
    "cap": "the cap on bytes while 20 M rows stream in",
    "rewindow": "windows made again from Kafka, and packets kept as rows",
    "freshness": "from a packet to its row and to ayaflow.live",
    "capacity": "the highest rate that the generator reaches, with exact totals",
    "baselines": "against bcc's callback, fastavro, nfstream and pmacctd",
}


_ALONE = {"history", "cap"}
"""Not among all: they take as long as the others do together."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--format", choices=("table", "json"), default="table")
    parser.add_argument("--no-write", action="store_true", help="leave docs/benchmarks as it is")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in NAMES]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]}; there are {', '.join(NAMES)}")
    if os.geteuid() != 0:
        parser.error("benchmarks load programs into the kernel: run them as root (sudo)")
    for name in arguments.names or (name for name in NAMES if name not in _ALONE):
        result = measure(name)
        print(result.json() if arguments.format == "json" else _shown(result), flush=True)
        if not arguments.no_write:
            result.write()
    if not arguments.no_write:
        readme.write()
    return 0


def measure(name: str) -> Result:
    module = importlib.import_module(f"tests.bench.bench_{name}")
    load, begin = os.getloadavg()[0], time.monotonic()
    rows = tuple(module.run())
    return Result(
        name=name,
        what=NAMES[name],
        rows=rows,
        seconds=round(time.monotonic() - begin, 1),
        load=(round(load, 2), round(os.getloadavg()[0], 2)),
        machine=machine(),
    )


def _shown(result: Result) -> str:
    where = result.machine
    return (
        f"{result.name}: {result.what} ({result.seconds:.0f} s, {where['cpu']}, {where['commit']})\n{table(result)}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
