"""The question which connections began against the rule, for the flows table. Pure."""

from schemas.community_id import TCP
from streams.store.arrow import CONNECTION
from streams.windowing.services import BELOW_1024, BELOW_32768, EPHEMERAL, RANKS


def _rank(port: str) -> str:
    """services.RANKS of a column."""
    usual = f"multiIf({port} < 1024, {BELOW_1024}, {port} < 32768, {BELOW_32768}, {EPHEMERAL})"
    of_services = {n: rank for n, rank in enumerate(RANKS.tolist()) if rank not in {BELOW_1024, BELOW_32768, EPHEMERAL}}
    return f"transform({port}, {list(of_services)}, {list(of_services.values())}, {usual})"


_SRC, _DST = _rank("src_port"), _rank("dst_port")
_AGAINST = f"({_SRC} < {_DST} OR ({_SRC} = {_DST} AND (src_addr, src_port) > (dst_addr, dst_port)))"
"""That src is not the side that initiators.by_rule tells. (It knows multicast, too, and is asked of what is found.)"""
PARTITION = "kafka_partition = {partition:Int32} AND topic_id IN ({topic:UInt64}, 0)"
"""0: rows from before the table knew the topic's id; they are taken to be of the same topic."""
_LATELY = (
    f"{PARTITION} AND window_begin > toDateTime({{since:UInt32}}, 'UTC') "
    f"AND window_begin < toDateTime({{until:UInt32}}, 'UTC') AND protocol = {TCP}"
)
_COLUMNS = ", ".join(CONNECTION)

_MOST_IN_SET, _MOST_GROUPS, _MOST_SECONDS = 1 << 20, 1 << 22, 10

NEWEST = f"""
    SELECT max(start) FROM (
        SELECT toUnixTimestamp(window_begin) AS start FROM flows
        WHERE {PARTITION} AND window_begin BETWEEN now() - INTERVAL 7 DAY AND now()
        ORDER BY toStartOfHour(window_begin) DESC, window_begin DESC LIMIT 1)
"""  # noqa: S608  constants
"""Start of a partition's newest window; 0: none lately. In the order of the table, so that little of it is read."""
SECONDS = 600
"""Before it, of which `rows` is asked."""
NO_END = 2**32 - 1
"""For `until`: up to the newest window."""


def rows(table: str = "flows") -> str:
    """The question, of the windows that start in (since, until).

    Ports are read first: of most rows they are enough. What is not found within these bounds is left out.
    """
    return f"""
    SELECT {_COLUMNS}, toUnixTimestamp(max(window_begin)) AS newest FROM {table}
    WHERE {_LATELY} AND ({_AGAINST} OR (dst_port, src_port) GLOBAL IN (
        SELECT src_port, dst_port FROM {table} WHERE {_LATELY} AND {_AGAINST}))
    GROUP BY {_COLUMNS} ORDER BY newest DESC LIMIT {{most:UInt32}}
    SETTINGS max_execution_time = {_MOST_SECONDS}, timeout_overflow_mode = 'break',
        max_rows_in_set = {_MOST_IN_SET}, set_overflow_mode = 'break',
        max_rows_to_group_by = {_MOST_GROUPS}, group_by_overflow_mode = 'any'
"""  # noqa: S608  names of ours
