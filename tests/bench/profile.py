"""Where the time goes: samples of the producer under load and of streams reading a full topic, by py-spy.

Run: python -m tests.bench.profile; as root. Writes docs/benchmarks/profiles.md.
"""

import itertools
import os
import subprocess
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
SECONDS, RATE, BATCHES, SHOWN = 6, 300_000, 1_500, 12


def main() -> None:
    parts: list[str] = []
    with kafka() as broker:
        for part in itertools.chain(_producer(broker), _streams(broker)):
            parts.append(part)
            _write(parts)


def _producer(broker: str) -> Iterator[str]:
    for flows in (50_000, 4):
        with bpf_filesystem() as bpffs, pair() as (sender, watched), producer(broker, bpffs, watched) as node:
            sending = generator.start(sender, packets=RATE * (SECONDS + 3), flows=flows, rate=RATE)
            samples = _record(node.pid)
            generator.finish(sending)
        yield _section(f"Producer, {RATE:,} packets/s, {flows:,} flows", samples)


def _streams(broker: str) -> Iterator[str]:
    with clickhouse() as url:
        for flows, label in ((500, "500 flows a batch"), (0, "every packet a new flow")):
            with pipeline(broker, url, streams_window_seconds="10") as ours:
                ours.send(list(traffic.batches(BATCHES if flows else BATCHES // 4, flows)))
                process = ours.start()
                wait_until(lambda: ours.health().get("partitions", 0) > 0, 60, "streams")
                yield _section(f"Streams, a full topic, {label}", _record(process.pid))


def _write(parts: Sequence[str]) -> None:
    where = machine()
    (FOLDER / "profiles.md").write_text(
        "# Profiles\n\nMade by `python -m tests.bench.profile` (after `make setup-bench`): py-spy, 200 samples a\n"
        "second of threads that run. The share of samples with a function on top, and who called it most.\n"
        f"{where['cpu']}, kernel {where['kernel']}, commit {where['commit']}, {where['date']}; "
        f"load {os.getloadavg()[0]:.1f}.\n\n" + "\n".join(parts)
    )


def _record(pid: int) -> Counter[tuple[str, ...]]:
    """Stacks, innermost last, and how often each was seen."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "samples"
        subprocess.run(
            [PY_SPY, "record", "--pid", str(pid), "--duration", str(SECONDS), "--rate", "200", "--format", "raw",
             "--nonblocking", "--output", path],
            check=True, capture_output=True,
        )  # fmt: skip
        found: Counter[tuple[str, ...]] = Counter()
        for line in path.read_text().splitlines():
            stack, _, count = line.rpartition(" ")
            found[tuple(_short(frame) for frame in stack.split(";"))] += int(count)
    return found


def _short(frame: str) -> str:
    """`function (path/file.py:12)` without the line and most of the path."""
    name, _, place = frame.partition(" (")
    return f"{name} ({'/'.join(place.rpartition(':')[0].split('/')[-2:])})" if place else name


def _section(title: str, samples: Counter[tuple[str, ...]]) -> str:
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
    return f"## {title}\n\n{markdown(('share', 'function', 'called by'), rows)}\n"


if __name__ == "__main__":
    main()
