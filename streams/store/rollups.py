"""Whether a rollup has what is in the flows table, and what it lacks. Pure text; the values are server-side parameters.

start     seconds since the Unix epoch: where the period begins
nodes     their names; a node's packets are in one partition, so nobody else writes its rows meanwhile
"""

from schemas.clickhouse.rollups import ROLLUPS, SUMS

_MOST_BYTES = 1 << 30  # of sums in memory, when a day is made anew


def _differences(rollup: str) -> str:
    """A row each row of flows, and one with the opposite sign each row of the rollup."""
    about = ROLLUPS[rollup]
    columns = (*about.keys, *about.others)
    own = [
        *(f"{about.value(name, 't')} AS {name}" for name in columns),
        *(f"toInt64({about.value(name, 't')}) AS d_{name}" for name in SUMS),
    ]
    theirs = [*(f"t.{name} AS {name}" for name in columns), *(f"-toInt64(t.{name}) AS d_{name}" for name in SUMS)]
    return (
        f"SELECT {', '.join(own)} FROM flows AS t {about.rows('t')} "  # noqa: S608  constants
        f"WHERE t.window_begin >= toDateTime({{start:UInt32}}, 'UTC') "
        f"AND t.window_begin < toDateTime({{start:UInt32}} + {about.seconds}, 'UTC') "
        f"AND t.node IN {{nodes:Array(String)}} UNION ALL SELECT {', '.join(theirs)} FROM {rollup} AS t "
        "WHERE t.time = toDateTime({start:UInt32}, 'UTC') AND t.node IN {nodes:Array(String)}"
    )


def lacks(rollup: str) -> str:
    """One number: 1 when a period of the rollup has not the sums of the rows of flows."""
    wrong = " OR ".join(f"sum(d_{name}) != 0" for name in SUMS)
    return f"SELECT toUInt8({wrong}) FROM ({_differences(rollup)})"  # noqa: S608  constants


def mend(rollup: str) -> str:
    """Put into a period of the rollup what it lacks, and nothing else."""
    about = ROLLUPS[rollup]
    keys = ", ".join(about.keys)
    sums = [f"toUInt64(sum(d_{name})) AS {name}" for name in SUMS]
    others = [f"{merge}(d.{name}) AS {name}" for name, merge in about.others.items()]
    lacking = " AND ".join(["sum(d_records) > 0", *(f"sum(d_{name}) >= 0" for name in SUMS)])
    return (
        f"INSERT INTO {rollup} (time, {keys}, {', '.join((*SUMS, *about.others))}) "  # noqa: S608  constants
        f"SELECT toDateTime({{start:UInt32}}, 'UTC') AS time, {keys}, {', '.join([*sums, *others])} "
        f"FROM ({_differences(rollup)}) AS d GROUP BY {keys} HAVING {lacking}"
    )


def rebuild(rollup: str, day: str) -> list[tuple[str, bool]]:
    """What makes a day (as ISO 8601 writes it) of a rollup anew from flows, one statement after the other.

    All of it can be done again. Nobody may write to that day meanwhile. True: only where flows has rows of the day.
    """
    about, made = ROLLUPS[rollup], f"{rollup}_again"
    of_day = f"t.window_begin >= toDateTime('{day} 00:00:00', 'UTC') AND toDate(t.window_begin) = toDate('{day}')"
    columns = ", ".join(("time", *about.columns))
    fill = (
        f"INSERT INTO {made} ({columns}) SELECT {columns} FROM ({about.made(of_day)}) "  # noqa: S608  constants
        f"SETTINGS max_bytes_before_external_group_by = {_MOST_BYTES}"
    )
    return [
        (f"DROP TABLE IF EXISTS {made}", False),
        (f"CREATE TABLE {made} AS {rollup}", False),
        (fill, False),
        (f"ALTER TABLE {rollup} REPLACE PARTITION '{day}' FROM {made}", True),
        (f"DROP TABLE {made}", False),
    ]
