"""`ayaflow doctor`: looks at each stage along the path of a packet and says in a sentence what to do."""

import contextlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from rich.table import Table
from rich.text import Text

from common.errors import AyaflowError, EnvironmentProblem, ServiceUnavailable
from common.plain import plain
from common.settings import Settings
from console.audit.storing import Storing
from console.health import Question, Verdict, questions
from console.show import tables
from console.store.client import Store
from deploy.local.up import preflight
from producer.kernel import environment, pins
from producer.kernel.load import choice, permission
from schemas.avro import registering
from schemas.clickhouse.ddl import migrations
from schemas.clickhouse.horizon import DEFAULTS_SQL, TABLES_SQL, Horizon, shorter, stored_tables
from schemas.clickhouse.retention import TABLES_SQL as TTLS_SQL
from schemas.clickhouse.retention import changes

DATA_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was looked at, and what was found."""

    name: str
    ok: bool
    message: str  # what is well; or what is wrong and what to do


Look = Callable[[], str]
"""Returns what is well; raises AyaflowError with what is wrong and what to do."""


def run(settings: Settings, *, beside: Path | None = None, as_json: bool = False, out: TextIO | None = None) -> int:
    """Check everything and print it. Returns 0 when all is well, else 1.

    `beside`: the settings file of the `ayaflow up` that runs here.
    """
    with contextlib.closing(Storing(settings.kafka, settings.streams)) as storing:
        found = list(check(looks(settings, storing, beside)))
    if as_json:
        document = {"ok": all(one.ok for one in found), "checks": [asdict(one) for one in found]}
        print(json.dumps(document, indent=2), file=out)
    else:
        tables.Paper(file=out, soft_wrap=True).print(table(found))
    return 0 if all(one.ok for one in found) else 1


def check(what: Iterable[tuple[str, Look]]) -> Iterable[Check]:
    """Look at one after the other; a check that fails does not keep the next from running."""
    for name, look in what:
        try:
            yield Check(name=name, ok=True, message=look())
        except AyaflowError as error:
            yield Check(name=name, ok=False, message=str(error))


def looks(settings: Settings, storing: Storing, beside: Path | None = None) -> list[tuple[str, Look]]:
    """All checks, in the order of the path of a packet."""
    found: list[tuple[str, Look]] = [("settings", lambda: f"of the running `ayaflow up`: {beside}")] if beside else []
    found += [
        ("privileges", _well(environment.check_privileges, "may load programs into the kernel")),
        ("kernel", _kernel),
        ("bpf", _bpf),
        ("kernel program", lambda: choice.described(settings.capture.loader)),
        ("left behind", lambda: left_behind(settings.capture.bpffs)),
        ("interfaces", _well(lambda: preflight.watched(settings.capture), "found")),
        ("java and jars", _well(lambda: preflight.programs(settings.kafka, settings.local), "found, or not needed")),
        ("disk", _well(lambda: preflight.disk(settings.data_dir), f"room in {settings.data_dir}")),
    ]
    kafka, clickhouse, *others = questions(settings)
    advice = "`ayaflow up` starts everything; its logs are in " + str(settings.data_dir / "logs")
    found.append(("kafka", answers(kafka, advice)))
    if settings.schema_registry.url:
        found.append(("schema registry", lambda: _registry(settings)))
    found += [("clickhouse", answers(clickhouse, advice)), ("tables", lambda: _tables(settings))]
    found += [("deduplication", lambda: deduplication(settings)), ("retention", lambda: retention(settings))]
    found += [(question.stage, answers(question, advice)) for question in others]
    found += [("storing", answers(storing.question(), "", _ages)), ("data", lambda: _data(settings))]
    return found


def _well(look: Callable[[], None], message: str) -> Look:
    def ask() -> str:
        look()
        return message

    return ask


def _kernel() -> str:
    environment.check_kernel()
    return f"has BPF; {environment.attaches_by()}"


def _bpf() -> str:
    permission.check_bpf()
    return permission.surroundings()


def left_behind(bpffs: Path) -> str:
    """Whether somebody answers for all that is in the kernel. Raises EnvironmentProblem."""
    try:
        nodes = pins.orphans(bpffs)
    except PermissionError:
        return f"only root can see what is in {bpffs / pins.TOP}"
    if nodes:
        raise EnvironmentProblem(
            f"node {', '.join(nodes)}: a program and its hooks are in the kernel, and no producer runs. Start one, "
            "which goes on from there, or: ayaflow detach"
        )
    return "nothing in the kernel is without its producer"


def _warnings(verdict: Verdict) -> str:
    return "; ".join(["answers and is well", *verdict.warnings])


def answers(question: Question, advice: str, well: Callable[[Verdict], str] = _warnings) -> Look:
    """Whether a stage is well, and then `well`; `advice`: what to do if it is not, where it has none."""

    def look() -> str:
        verdict = question.ask()
        if not verdict.ok:
            raise ServiceUnavailable(
                ". ".join(filter(None, (verdict.sentence(question.place), verdict.advice or advice)))
            )
        return well(verdict)

    return look


def _ages(storing: Verdict) -> str:
    ages = [
        f"{each['oldest_age_seconds']:.0f} s (partition {each['partition']})"
        for each in storing.details["partitions"]
        if each["messages"]
    ]
    return f"the oldest messages that are not stored: {', '.join(ages) or 'none'}"


def _registry(settings: Settings) -> str:
    registering.check(settings.schema_registry.url or "")
    return "answers"


def _tables(settings: Settings) -> str:
    wanted = {migration.number for migration in migrations(settings.clickhouse)}
    with Store(settings.clickhouse, timeout_seconds=10) as store:
        rows = store.select(f"SELECT DISTINCT number FROM {settings.clickhouse.database}.schema_migrations")  # noqa: S608  checked name
    missing = sorted(wanted - {int(row["number"]) for row in rows})
    if missing:
        raise ServiceUnavailable(
            f"ClickHouse lacks the migrations {', '.join(map(str, missing))}. `ayaflow streams` (or up) applies them"
        )
    return f"at version {max(wanted)}"


def deduplication(settings: Settings) -> str:
    """Whether the server knows the names of inserts as far back as packets can be read again."""
    wanted, database = Horizon.of(settings.kafka, settings.streams), settings.clickhouse.database
    names = stored_tables(settings.clickhouse.cluster)
    with Store(settings.clickhouse, timeout_seconds=10) as store:
        seen = [row for row in store.select(TABLES_SQL, {"database": database}) if row["name"] in names]
        defaults = {row["name"]: int(row["value"]) for row in store.select(DEFAULTS_SQL)}
    if hidden := sorted(set(names) - {row["name"] for row in seen}):
        raise ServiceUnavailable(
            f"how long ClickHouse remembers inserts is not known: {settings.clickhouse.username!r} does not see "
            f"{', '.join(hidden)}. GRANT SHOW TABLES ON {database}.*, or let `ayaflow streams` make them"
        )
    short = shorter(wanted, [(row["name"], row["engine"], row["engine_full"]) for row in seen], defaults)
    if short:
        found = "; ".join(
            f"{table}: {name} = {value} instead of {wanted.settings[name]}"
            for table, small in sorted(short.items())
            for name, value in small.items()
        )
        raise ServiceUnavailable(
            f"ClickHouse forgets inserts before Kafka forgets their packets ({found}). `ayaflow streams` changes that "
            "when it connects, if its user may ALTER these tables"
        )
    return f"inserts are known for {wanted.seconds:,} s and {wanted.inserts:,} inserts, or longer"


def retention(settings: Settings) -> str:
    """Whether the tables keep their rows for as long as the settings say."""
    wanted = settings.clickhouse.retention
    with Store(settings.clickhouse, timeout_seconds=10) as store:
        seen = store.select(TTLS_SQL, {"database": settings.clickhouse.database})
    others = changes(settings.clickhouse, [(row["name"], row["engine_full"]) for row in seen], wanted)
    if others:
        found = "; ".join(f"{each.table}: {each.before:,} days instead of {each.days:,}" for each in others)
        raise ServiceUnavailable(
            f"tables were made with another retention ({found}). `ayaflow streams` changes that when it connects, if "
            "its user may ALTER these tables"
        )
    return ", ".join(f"{name.removesuffix('_retention_days')} {days:,}" for name, days in wanted.items()) + " days"


def _data(settings: Settings) -> str:
    with Store(settings.clickhouse, timeout_seconds=10) as store:
        recent = store.select(
            "SELECT count() AS epochs, sum(seen_packets) AS packets "  # noqa: S608  checked name
            f"FROM {settings.clickhouse.database}.ledger WHERE end_time > now() - {DATA_SECONDS}"
        )[0]
    if not int(recent["epochs"]):
        raise ServiceUnavailable(
            f"nothing came into the ledger in the last {DATA_SECONDS} s, and a node that sees nothing says that each "
            "second. If a stage above is not well, begin there; else no producer runs: start it with `ayaflow up` or "
            "`ayaflow producer`"
        )
    if not int(recent["packets"]):
        return f"no packet in the last {DATA_SECONDS} s: watch other interfaces with --interface, if there should be"
    return f"{int(recent['packets'])} packets in the last {DATA_SECONDS} s"


def table(found: list[Check]) -> Table:
    """A line a check, as a terminal may have it."""
    shown = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    for one in found:
        mark = Text("ok", style="green") if one.ok else Text("FAIL", style="bold red")
        shown.add_row(mark, one.name, Text(plain(one.message)))
    return shown
