"""The rollups of flows as data: what tells their rows apart, and how a row of flows becomes rows of theirs. Pure.

The columns and views of schemas/clickhouse/0002_rollups.sql are made from it (schemas.clickhouse.rollup_ddl), and
so are the questions of recovery, audit and repair: none of them has a list of its own.

A rollup that has `sides` has each flow twice: at its initiator and at its responder (once where both are one address).
`side` is then 0, 1 or, of such a flow, 2; packets and bytes are what that side sent, `_rev` what it got.
"""

from dataclasses import dataclass, field

from schemas.fields import KEYS, names

SUMS = ("packets", "bytes", "packets_rev", "bytes_rev", "records")
"""What each rollup adds up; records: rows of flows."""
SIDES = """[('ingress', sum(if(direction = 'ingress', packets, packets_rev)),
             sum(if(direction = 'ingress', bytes, bytes_rev))),
 ('egress', sum(if(direction = 'egress', packets, packets_rev)),
            sum(if(direction = 'egress', bytes, bytes_rev)))]"""
"""SQL: what passed an interface in each direction, of rows that have both ways of their flows."""
_FLAGS = {"tcp_flags": "groupBitOr", "tcp_flags_rev": "groupBitOr"}
_SEEN = {"first_seen": "min", "last_seen": "max"}
_OF_A_SIDE = {
    "addr": "if(side = 1, {flow}.dst_addr, {flow}.src_addr)",
    "role": "CAST(side, 'Enum8(''initiator'' = 0, ''responder'' = 1, ''both'' = 2)')",
}
_FIRST = ("dst_addr", "src_addr", "protocol", "dst_port", "node")
PLACE = frozenset({"node", "interface", "direction"})
"""Where a flow was seen."""
_KEYS = tuple(
    sorted(
        names(tuple(key for key in KEYS if key.in_rollups)),
        key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollup:
    """One table."""

    seconds: int  # of a row's period; `time` is its start
    keys: tuple[str, ...] = _KEYS  # what tells rows of a period apart, in the order of its sort key
    others: dict[str, str] = field(default_factory=dict)  # columns that are not added up, and how they are merged
    sides: bool = False

    def period(self, time: str) -> str:
        """SQL of the start of the period that a time lies in."""
        return f"toStartOfInterval({time}, INTERVAL {self.seconds} SECOND)"

    def value(self, column: str, flow: str) -> str:
        """SQL of a column of one row, made of the row `flow` of flows (and of `side`)."""
        if column in _SEEN:
            return f"toDateTime({flow}.{column}, 'UTC')"
        if column in _OF_A_SIDE:
            return _OF_A_SIDE[column].format(flow=flow)
        if not self.sides or column not in SUMS or column == "records":
            return "toUInt64(1)" if column == "records" else f"{flow}.{column}"
        other = column.removesuffix("_rev") if column.endswith("_rev") else f"{column}_rev"
        return f"if(side = 1, {flow}.{other}, {flow}.{column})"

    def rows(self, flow: str) -> str:
        """What stands behind `FROM flows AS flow`, so that there is a row for each row of the rollup."""
        return f"ARRAY JOIN if({flow}.src_addr = {flow}.dst_addr, [2], [0, 1]) AS side" if self.sides else ""

    @property
    def columns(self) -> tuple[str, ...]:
        """All but `time`."""
        return (*self.keys, *SUMS, *self.others)

    def view(self, source: str) -> str:
        """SQL of what an insert into a table like flows adds to it: merged rows of the insert, `time` and columns."""
        keys = ", ".join(f"{self.value(name, 'flow')} AS {name}" for name in self.keys)
        sums = [f"sum({self.value(name, 'flow')}) AS {name}" for name in SUMS if name != "records"]
        others = [f"{merge}({self.value(name, 'flow')}) AS {name}" for name, merge in self.others.items()]
        measures = ", ".join((*sums, "count() AS records", *others))
        return (
            f"SELECT {self.period('flow.window_begin')} AS time, {keys}, {measures} "  # noqa: S608  names of ours
            f"FROM {source} AS flow {self.rows('flow')} GROUP BY time, {', '.join(self.keys)}"
        )

    def made(self, where: str) -> str:
        """SQL of its rows as flows has them, each once: `time` and its columns. `where` is about `flows AS t`."""
        columns = ", ".join(f"{self.value(name, 't')} AS {name}" for name in self.columns)
        source = f"FROM flows AS t {self.rows('t')} WHERE {where}"
        return self._merged(f"SELECT {self.period('t.window_begin')} AS time, {columns} {source}")

    def stored(self, table: str, where: str) -> str:
        """SQL of its rows as a table has them, likewise. `where` is about `table AS t`."""
        columns = ", ".join(f"t.{name} AS {name}" for name in self.columns)
        return self._merged(f"SELECT t.time AS time, {columns} FROM {table} AS t WHERE {where}")  # noqa: S608  names of ours

    def _merged(self, rows: str) -> str:
        keys = ", ".join(f"r.{name}" for name in ("time", *self.keys))
        merged = [f"r.{name} AS {name}" for name in ("time", *self.keys)]
        merged += [f"sum(r.{name}) AS {name}" for name in SUMS]
        merged += [f"{merge}(r.{name}) AS {name}" for name, merge in self.others.items()]
        return f"SELECT {', '.join(merged)} FROM ({rows}) AS r GROUP BY {keys}"  # noqa: S608  names of ours


ROLLUPS = {
    "services_1m": Rollup(seconds=60, keys=tuple(key for key in _KEYS if not key.endswith("_addr")), others=_FLAGS),
    "flows_1h": Rollup(seconds=3_600, others=_FLAGS),
    "flows_1d": Rollup(seconds=86_400, keys=tuple(key for key in _KEYS if key not in PLACE), others=_FLAGS | _SEEN),
    "hosts_1h": Rollup(seconds=3_600, keys=("addr", "node", "role", "primary"), sides=True),
}
"""All of them."""
SMALLEST = next(name for name, about in ROLLUPS.items() if not about.sides and "src_addr" not in about.keys)
"""The one without addresses: whether rows are in the rollups at all is asked of it."""
BY_TIME = {name: about.seconds for name, about in ROLLUPS.items() if {"src_addr", "dst_addr"} <= {*about.keys}}
"""Those that have both ends of a flow, the finest first."""
