"""Where the time goes: samples of the producer under load and of streams reading a full topic, by py-spy.

Run: python -m tests.bench.profile [producer] [streams]; as root. Writes its sections of docs/benchmarks/profiles.md.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench import generator, traffic
from tests.bench.node import producer
from tests.bench.places import bpf_filesystem, clickhouse, kafka, pair
from tests.bench.process import wait_until
from tests.bench.results import FOLDER, ROOT, machine, markdown
from tests.integration.fix_streams import pipeline

PY_SPY = ROOT / ".venv-bench" / "bin" / "py-spy"
SECONDS, RATE, BATCHES, SHOWN = 6, 300_000, 2_000, 12
TARGET = FOLDER / "profiles.md"
HEAD = """# Profiles

Made by `python -m tests.bench.profile` (after `make setup-bench`): py-spy, 200 samples a second of threads that run.
The share of samples with a function on top, and who called it most.
"""


def main(wanted: Sequence[str]) -> None:
    with kafka() as broker:
        for name, sections in (("producer", _producer), ("streams", _streams)):
            if name in wanted or not wanted:
                for title, text in sections(broker):
                    _write(title, text)


def _producer(broker: str) -> Iterator[tuple[str, str]]:
    for flows in (50_000, 4):
        with bpf_filesystem() as bpffs, pair() as (sender, watched), producer(broker, bpffs, watched) as node:
            sending = generator.start(sender, packets=RATE * (SECONDS + 3), flows=flows, rate=RATE)
            samples = _record(node.pid)
            generator.finish(sending)
        yield _section(f"Producer, {RATE:,} packets/s, {flows:,} flows", samples)


def _streams(broker: str) -> Iterator[tuple[str, str]]:
    with clickhouse() as url:
        for flows, label in ((500, "500 flows a batch"), (0, "every packet a new flow")):
            with pipeline(broker, url, streams_window_seconds="10") as ours:
                ours.send(list(traffic.batches(BATCHES if flows else BATCHES // 4, flows)))
                process = ours.start()
                wait_until(lambda: ours.health().get("partitions", 0) > 0, 60, "streams")
                samples = _record(process.pid)
            yield _section(f"Streams, a full topic, {label}", samples)


def _write(title: str, text: str) -> None:
    """Put a section in its place, or behind the others."""
    earlier = re.split(r"^## ", TARGET.read_text(), flags=re.MULTILINE)[1:]
    sections = {part.partition("\n")[0]: part.partition("\n")[2].strip() for part in earlier} | {title: text}
    TARGET.write_text("\n".join([HEAD, *(f"## {title}\n\n{text}\n" for title, text in sections.items())]))


def _record(pid: int) -> Counter[tuple[str, ...]]:
    """Stacks, innermost last, and how often each was seen."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "samples"
        subprocess.run(
            [
                PY_SPY,
                "record",
                "--pid",
                str(pid),
                "--duration",
                str(SECONDS),
                "--rate",
                "200",
                "--format",
                "raw",
                "--nonblocking",
                "--output",
                path,
            ],
            check=True,
            capture_output=True,
        )
        found: Counter[tuple[str, ...]] = Counter()
        for line in path.read_text().splitlines():
            stack, _, count = line.rpartition(" ")
            found[tuple(_short(frame) for frame in stack.split(";"))] += int(count)
    return found


def _short(frame: str) -> str:
    """`function (path/file.py:12)` without the line and most of the path."""
    name, _, place = frame.partition(" (")
    return f"{name} ({'/'.join(place.rpartition(':')[0].split('/')[-2:])})" if place else name


def _section(title: str, samples: Counter[tuple[str, ...]]) -> tuple[str, str]:
    total = sum(samples.values())
    top: Counter[str] = Counter()
    callers: dict[str, Counter[str]] = {}
    for stack, count in samples.items():
        top[stack[-1]] += count
        callers.setdefault(stack[-1], Counter())[stack[-2] if len(stack) > 1 else ""] += count
    rows = [
        (f"{count / total:.0%}", f"`{name}`", ", ".join(f"`{each}`" for each, _ in callers[name].most_common(2)))
        for name, count in top.most_common(SHOWN)
    ]
    where = machine()
    taken = f"{where['cpu']}, kernel {where['kernel']}, commit {where['commit']}, {where['date']}"
    return title, f"{taken}; load {os.getloadavg()[0]:.1f}.\n\n{markdown(('share', 'function', 'called by'), rows)}"


if __name__ == "__main__":
    main(sys.argv[1:])
