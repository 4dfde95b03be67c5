"""Whether a rollup has what is in the flows table, and what it lacks. Pure text; the values are server-side parameters.

start     seconds since the Unix epoch: where the period begins
nodes     of a rollup that knows them, their names; a node's packets are in one partition, so nobody else writes its
          rows meanwhile
hold      of one that does not, the constraint of flows that keeps everybody from writing to the day
"""

from schemas.clickhouse.rollups import ROLLUPS, SUMS

_SETTINGS = f"max_bytes_before_external_group_by = {1 << 30}"  # much of a day may be made anew
HELD = """SELECT count() FROM system.tables WHERE database = currentDatabase() AND name IN ('flows', 'flows_local')
    AND position(create_table_query, {hold:String}) > 0"""
"""Whether there is a constraint of that name."""
STILL_HELD = f"throwIf(({HELD}) = 0, 'somebody else took the day over') = 0"
"""A condition that ends a statement, whatever it reads, where there is none."""


def by_node(rollup: str) -> bool:
    """Whether its rows are told apart by node."""
    return "node" in ROLLUPS[rollup].keys


def _differences(rollup: str) -> str:
    """A row each row of flows, and one with the opposite sign each row of the rollup.

    A server fixes what it reads of a table in the order in which they stand here. An insert fills flows first: so one
    of others that is under way may be in flows alone, and is then taken for something that lacks. The other way round
    it could make up for something that does.
    """
    about = ROLLUPS[rollup]
    columns = (*about.keys, *about.others)
    own = [
        *(f"{about.value(name, 't')} AS {name}" for name in columns),
        *(f"toInt64({about.value(name, 't')}) AS d_{name}" for name in SUMS),
    ]
    theirs = [*(f"t.{name} AS {name}" for name in columns), *(f"-toInt64(t.{name}) AS d_{name}" for name in SUMS)]
    of_nodes = " AND t.node IN {nodes:Array(String)}" if by_node(rollup) else ""
    return (
        f"SELECT {', '.join(theirs)} FROM {rollup} AS t "  # noqa: S608  constants
        f"WHERE t.time = toDateTime({{start:UInt32}}, 'UTC'){of_nodes} "
        f"UNION ALL SELECT {', '.join(own)} FROM flows AS t {about.rows('t')} "
        f"WHERE t.window_begin >= toDateTime({{start:UInt32}}, 'UTC') "
        f"AND t.window_begin < toDateTime({{start:UInt32}} + {about.seconds}, 'UTC'){of_nodes}"
    )


def lacks(rollup: str) -> str:
    """One number: 1 when a period of the rollup has not the sums of the rows of flows."""
    wrong = " OR ".join(f"sum(d_{name}) != 0" for name in SUMS)
    return f"SELECT toUInt8({wrong}) FROM ({_differences(rollup)})"  # noqa: S608  constants


def missing(rollup: str) -> str:
    """One number: of how many rows of a period the rollup has less than flows."""
    return f"SELECT count() FROM ({_missing(rollup, '')}) SETTINGS {_SETTINGS}"  # noqa: S608  constants


def mend(rollup: str) -> str:
    """Put into a period of the rollup what it lacks, and nothing else; nothing at all when `hold` is gone."""
    about = ROLLUPS[rollup]
    columns = ", ".join(("time", *about.keys, *SUMS, *about.others))
    held = "" if by_node(rollup) else f" AND ({HELD}) > 0"
    return f"INSERT INTO {rollup} ({columns}) {_missing(rollup, held)} SETTINGS {_SETTINGS}"


def _missing(rollup: str, condition: str) -> str:
    about = ROLLUPS[rollup]
    keys = ", ".join(about.keys)
    sums = [f"toUInt64(sum(d_{name})) AS {name}" for name in SUMS]
    others = [f"{merge}(d.{name}) AS {name}" for name, merge in about.others.items()]
    lacking = " AND ".join(["sum(d_records) > 0", *(f"sum(d_{name}) >= 0" for name in SUMS)])
    return (
        f"SELECT toDateTime({{start:UInt32}}, 'UTC') AS time, {keys}, {', '.join([*sums, *others])} "  # noqa: S608  constants
        f"FROM ({_differences(rollup)}) AS d GROUP BY {keys} HAVING {lacking}{condition}"
    )


def fill(rollup: str, day: str, made: str) -> str:
    """Put a day (as ISO 8601 writes it) of a rollup into the table `made`, from flows. Fails when `hold` is gone."""
    about = ROLLUPS[rollup]
    of_day = f"t.window_begin >= toDateTime('{day} 00:00:00', 'UTC') AND toDate(t.window_begin) = toDate('{day}')"
    columns = ", ".join(("time", *about.columns))
    return (
        f"INSERT INTO {made} ({columns}) SELECT {columns} FROM ({about.made(of_day)}) WHERE {STILL_HELD} "  # noqa: S608  constants
        f"SETTINGS {_SETTINGS}"
    )
