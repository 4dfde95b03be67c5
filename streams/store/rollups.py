"""Whether a rollup has what is in the flows table, and what it lacks. Pure text; the values are server-side parameters.

start     seconds since the Unix epoch: where the period begins
nodes     their names; a node's packets are in one partition, so nobody else writes its rows meanwhile
"""

from schemas.fields import KEYS, ROLLUPS, names

_KEYS = ", ".join(names(tuple(field for field in KEYS if field.in_rollups)))
_SUMS = ("packets", "bytes", "packets_rev", "bytes_rev", "records")
_FLAGS = ("tcp_flags", "tcp_flags_rev")


def _differences(rollup: str) -> str:
    """A row each row of flows, and one with the opposite sign each row of the rollup."""
    own = ", ".join(f"{'1' if name == 'records' else f'toInt64({name})'} AS d_{name}" for name in _SUMS)
    theirs = ", ".join(f"-toInt64({name}) AS d_{name}" for name in _SUMS)
    period = ROLLUPS[rollup]
    return (
        f"SELECT {_KEYS}, {own}, {', '.join(f'{name} AS d_{name}' for name in _FLAGS)} FROM flows "  # noqa: S608  constants
        f"WHERE window_begin >= toDateTime({{start:UInt32}}, 'UTC') "
        f"AND window_begin < toDateTime({{start:UInt32}} + {period}, 'UTC') AND node IN {{nodes:Array(String)}} "
        f"UNION ALL SELECT {_KEYS}, {theirs}, {', '.join(f'0 AS d_{name}' for name in _FLAGS)} FROM {rollup} "
        "WHERE time = toDateTime({start:UInt32}, 'UTC') AND node IN {nodes:Array(String)}"
    )


def lacks(rollup: str) -> str:
    """One number: 1 when a period of the rollup has not the sums of the rows of flows."""
    wrong = " OR ".join(f"sum(d_{name}) != 0" for name in _SUMS)
    return f"SELECT toUInt8({wrong}) FROM ({_differences(rollup)})"  # noqa: S608  constants


def mend(rollup: str) -> str:
    """Put into a period of the rollup what it lacks, and nothing else."""
    columns = (*_SUMS, *_FLAGS)
    sums = [f"toUInt64(sum(d_{name})) AS {name}" for name in _SUMS]
    flags = [f"groupBitOr(d_{name}) AS {name}" for name in _FLAGS]
    lacking = " AND ".join(["sum(d_records) > 0", *(f"sum(d_{name}) >= 0" for name in _SUMS)])
    return (
        f"INSERT INTO {rollup} (time, {_KEYS}, {', '.join(columns)}) "  # noqa: S608  constants
        f"SELECT toDateTime({{start:UInt32}}, 'UTC') AS time, {_KEYS}, {', '.join([*sums, *flags])} "
        f"FROM ({_differences(rollup)}) GROUP BY {_KEYS} HAVING {lacking}"
    )
