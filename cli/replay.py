"""`ayaflow replay`: captures through the kernel program, to Kafka or into a file."""

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cli.standard import check_input, check_output, say
from common.errors import AyaflowError, SettingsError
from common.settings import CaptureSettings, Settings
from common.stopping import Stop, stop_on_signals
from common.times import iso
from producer.kernel.environment import check_kernel, check_privileges
from producer.replay.feed import Block, Feed, Totals
from producer.replay.files.source import stem
from producer.replay.kafka_sink import open_sink
from producer.replay.program import ReplayProgram
from producer.replay.run import Pace, Replay, Sink

_LINK_TYPES = {
    105: "IEEE 802.11",
    127: "radiotap",
    147: "user 0",
    187: "Bluetooth",
    189: "USB",
    192: "PPI",
    220: "USB",
    239: "NFLOG",
    249: "USB",
    253: "netlink",
    258: "exported PDU",
}
_INTERRUPTED = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says beside the settings."""

    paths: tuple[str, ...]  # `-`: standard input
    node: str | None  # None: from the first capture's name
    output: str | None  # None: to Kafka; `-`: standard output
    form: str
    speed: float | None  # None: as fast as it goes
    interface: str | None  # of captures that name none; None: from each file's name


def parse_speed(text: str) -> float | None:
    """`max` or a number above 0. Raises SettingsError."""
    try:
        speed = None if text == "max" else float(text)
    except ValueError:
        speed = 0.0
    if speed is not None and not 0 < speed < float("inf"):
        raise SettingsError(f"--speed {text}: write max, 1 (as it was captured), or 10 (ten times as fast)")
    return speed


def run(settings: Settings, options: Options) -> int:
    """Replay -> exit code. Raises AyaflowError when it cannot begin or go on."""
    _check_paths(options)
    check_privileges()
    check_kernel()
    node = options.node or re.sub(r"[^A-Za-z0-9._-]+", "-", f"replay-{stem(options.paths[0])}")[:200]
    began = time.monotonic()
    log = settings.data_dir / "logs" / "kernel-replay.log"
    capture, names = settings.capture, None
    if capture.inspect:
        from producer.inspection.opening import OpenedNames

        names = OpenedNames(settings.names).reading(0)
    with stop_on_signals(once=True) as stop, opened(capture, log) as program:
        feed = Feed(program, node=node, ring_id=time.time_ns() // 1000, names=names)
        play = _to_kafka if options.output is None else _to_file
        with _progress(options.paths) as tell:
            broken, result = play(settings, options, feed, tell, stop)
    feed.totals.check()
    say(_summary(feed.totals, result, time.monotonic() - began, stopped=stop.is_set()))
    return _exit_code(feed.totals, broken, stopped=stop.is_set())


def opened(capture: CaptureSettings, log: Path) -> ReplayProgram:
    """The kernel program as the settings want it. Raises EnvironmentProblem."""
    return ReplayProgram(log, capture.decapsulate, capture.inspected_bytes, loader=capture.loader)


_Tell = Callable[[int], None]
_Played = tuple[list[AyaflowError], str]
"""What is wrong with the captures, and what became of the packets, in words."""


def _to_kafka(settings: Settings, options: Options, feed: Feed, tell: _Tell, stop: Stop) -> _Played:
    with open_sink(
        feed,
        kafka=settings.kafka,
        encoding=settings.producer.encoding,
        schema_registry_url=settings.schema_registry.url,
    ) as sink:
        replay = Replay(
            feed=feed,
            sink=_Aged(sink, feed, settings.clickhouse.flows_retention_days),
            pace=Pace(options.speed),
            tell=tell,
            stop=stop,
            batch_packets=settings.producer.batch_packets,
            interface=options.interface,
        )
        broken = replay.run(options.paths)
        sink.finish(settings.streams.window_seconds)
    return broken, f"{feed.totals.counted['emitted_packets']:,} packets sent to Kafka as node {feed.node}"


class _Aged:
    """A sink that says once that ClickHouse will not keep what it is given: while there is time to stop."""

    def __init__(self, sink: Sink, feed: Feed, days: int) -> None:
        self.idle, self._sink, self._feed, self._days, self._said = sink.idle, sink, feed, days, False

    def take(self, block: Block) -> None:
        first = self._feed.earliest_ns
        if not self._said and first is not None and first / 1e9 < time.time() - self._days * 86_400:
            self._said = True
            say(
                f"ayaflow: warning: packets of {iso(first / 1e9)[:10]} are older than clickhouse.flows_retention_days"
                f" ({self._days}): Kafka has them, ClickHouse removes their flows as they are stored. For a file use"
                " --output; for the table raise the setting, and on tables that are there their TTL, and replay again"
            )
        self._sink.take(block)


def _to_file(settings: Settings, options: Options, feed: Feed, tell: _Tell, stop: Stop) -> _Played:
    from console.show.records import WRITERS
    from streams.windowing.offline import OfflineWindows
    from streams.windowing.spill import Spill

    assert options.output is not None
    spill = Spill()
    windows = OfflineWindows(window_seconds=settings.streams.window_seconds, store=spill)

    class Sink:
        def take(self, block: Block) -> None:
            windows.add(feed.batch(block).batch)
            feed.forget_names()

        def idle(self, seconds: float, _clock_ns: int) -> None:
            time.sleep(seconds)

    with contextlib.closing(spill), _open_output(options.output) as out:
        pace = Pace(options.speed)
        replay = Replay(feed=feed, sink=Sink(), pace=pace, tell=tell, stop=stop, interface=options.interface)
        broken = replay.run(options.paths)
        writer = WRITERS[options.form](out)
        for flows in windows.flows():
            writer.write(flows)
        writer.close()
    place = "standard output" if options.output == "-" else options.output
    return broken, f"{writer.rows:,} flows written to {place}"


def _summary(totals: Totals, result: str, seconds: float, *, stopped: bool) -> str:
    counted = totals.counted
    return (
        f"ayaflow replay: {'stopped: ' if stopped else ''}{totals.frames:,} frames read, {result}, "
        f"{counted['non_ip_packets']:,} non-IP, {counted['malformed_packets']:,} malformed, "
        f"{totals.unsupported.total():,} unsupported ({seconds:.1f} s)"
    )


def _exit_code(totals: Totals, broken: list[AyaflowError], *, stopped: bool) -> int:
    """Say what is wrong, and how that ends."""
    for number, count in sorted(totals.unsupported.items()):
        name = f" ({_LINK_TYPES[number]})" if number in _LINK_TYPES else ""
        say(f"ayaflow: warning: {count:,} frames of link type {number}{name} were not read")
    if totals.bad_times:
        say(f"ayaflow: warning: {totals.bad_times:,} time stamps lie before 1970 or after 2105")
    for error in broken:
        say(f"ayaflow: error: {error}")
    if stopped:
        return _INTERRUPTED
    nothing_read = totals.frames > 0 and totals.unsupported.total() == totals.frames
    if nothing_read and not broken:
        say("ayaflow: error: no frame could be read: convert the capture to Ethernet or raw IP")
    return 1 if broken or nothing_read else 0


def _check_paths(options: Options) -> None:
    """Raise SettingsError for what is not there, before anything is done."""
    if options.paths.count("-") > 1:
        raise SettingsError("standard input (-) can be read once")
    if "-" in options.paths:
        check_input()
    if options.output == "-":
        check_output()
    for path in options.paths:
        if path == "-":
            continue
        try:
            if Path(path).is_fifo():
                continue
            with Path(path).open("rb"):
                pass
        except OSError as error:
            raise SettingsError(f"cannot read {path}: {error.strerror}; give the name of a capture file") from error
        if (
            options.output not in {None, "-"}
            and Path(str(options.output)).exists()
            and (Path(path).samefile(str(options.output)))
        ):
            raise SettingsError(f"--output {options.output} is the capture itself; choose another name")


@contextlib.contextmanager
def _open_output(path: str) -> Iterator[BinaryIO]:
    if path == "-":
        from console.show.output import for_programs

        text = for_programs(sys.stdout)
        yield text.buffer
        text.flush()
        return
    try:
        out = Path(path).open("wb")  # noqa: SIM115  closed below
    except OSError as error:
        raise SettingsError(f"--output {path}: cannot write: {error.strerror}") from error
    try:
        yield out
        out.flush()
    except OSError as error:
        raise AyaflowError(f"cannot write {path}: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):  # said above
            out.close()


@contextlib.contextmanager
def _progress(paths: tuple[str, ...]) -> Iterator[Callable[[int], None]]:
    """Shows how much of the files is read, on a terminal."""
    if not sys.stderr.isatty():
        yield lambda _octets: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    sizes = [os.stat(path).st_size for path in paths if path != "-" and Path(path).is_file()]  # noqa: PTH116
    total = sum(sizes) if len(sizes) == len(paths) else None
    columns = (TextColumn("replay"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("replay", total=total)
        yield lambda octets: bar.advance(task, octets)
