"""The questions about names: those of flows, and the DNS transactions that were read. Pure text and parameters.

Each answer stands beside the share of bytes that have a name: of `domains` it is summed from the same rows.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from common.errors import QueryError
from console.query import explore_sql
from console.query.explore_sql import Question
from console.query.filter_sql import Parameters, compile_filter
from console.query.filters import Filter
from schemas.fields import DOMAIN_SOURCES

BY = ("domain",)
"""What the Question of a view is asked by: it is answered from the raw windows, which alone have names."""
SOURCES = tuple(source for source in DOMAIN_SOURCES if source)
COUNTS = ("bytes", "packets", "records")
"""Of flows, both directions together."""
COLUMNS = {
    "node": "f.node",
    "src_addr": "f.client",
    "dst_addr": "f.server",
    "dst_port": "f.server_port",
    "protocol": "f.protocol",
    "domain": "f.name",
    "ja4": "f.ja4",
    "alpn": "f.alpn",
}
"""Fields of filters that the table `names` has, and what they are called there."""
_TYPES = {
    1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 13: "HINFO", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV",
    35: "NAPTR", 39: "DNAME", 41: "OPT", 43: "DS", 44: "SSHFP", 46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 50: "NSEC3",
    52: "TLSA", 64: "SVCB", 65: "HTTPS", 99: "SPF", 251: "IXFR", 252: "AXFR", 255: "ANY", 257: "CAA",
}  # fmt: skip
_CODES = {
    -1: "no answer", 0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 6: "YXDOMAIN",
    7: "YXRRSET", 8: "NXRRSET", 9: "NOTAUTH", 10: "NOTZONE", 16: "BADVERS", 23: "BADCOOKIE",
}  # fmt: skip
_PERCENTILES = (50, 90, 99)
_ASKED = "f.kind IN ('dns', 'mdns', 'llmnr')"
_DNS = "f.kind = 'dns'"  # of mDNS and LLMNR most questions have no answer, and that is well
_FAILED = f"{_DNS} AND f.rcode != 0"


def _word(column: str, words: Mapping[int, str], other: str) -> str:
    numbers, texts = list(words), ", ".join(f"'{word}'" for word in words.values())
    return f"transform(toInt32({column}), {numbers}, [{texts}], concat('{other}', toString({column})))"


QTYPE = _word("f.qtype", _TYPES, "TYPE")  # as RFC 3597 writes those without a name
RCODE = _word("f.rcode", _CODES, "RCODE")
_LATENCIES = ", ".join(
    # the mean of a row: nearly all stand for one transaction
    f"if(sum(f.latency_count) = 0, NULL, quantileExactWeightedIf({percent / 100})("
    f"toUInt64(f.latency_us_sum / greatest(f.latency_count, 1)), f.latency_count, f.latency_count > 0))"
    f" AS latency_us_p{percent}"
    for percent in _PERCENTILES
)
_LATENCIES += ", if(sum(f.latency_count) = 0, NULL, max(f.latency_us_max)) AS latency_us_max"
_OUTCOMES = {
    "transactions": "sum(f.count)",
    "failures": f"sumIf(f.count, {_DNS} AND f.rcode > 0)",
    "unanswered": f"sumIf(f.count, {_DNS} AND f.rcode < 0)",
}


def domains(question: Question) -> tuple[str, Parameters]:
    """Names of flows, those of most bytes first; `total_…` and `named_…` are of all flows, as `share` has them."""
    source, parameters = explore_sql.source(question, ("domain", "domain_source", "src_addr", "dst_addr"))
    totals = ", ".join(f"sum({text}) OVER () AS {name}" for name, text in _share().items())
    sql = f"""
SELECT u.domain AS domain, arrayFilter(s -> s != '', arraySort(groupUniqArray(toString(u.domain_source)))) AS sources,
       uniqExact(u.src_addr) AS clients, uniqExact(u.dst_addr) AS servers, {explore_sql.sums()}, {totals}
FROM ({source}) AS u
GROUP BY domain
ORDER BY domain = '', bytes + bytes_rev DESC, domain
LIMIT {{limit:UInt64}}"""  # noqa: S608  only names of ours; values are parameters
    return sql.strip(), parameters


def share(question: Question) -> tuple[str, Parameters]:
    """One row: `total_` bytes, packets and records, and `named_` those of them that have a name from each source.

    `read` is how many transactions and handshakes were read in that time, of whatever flows.
    """
    source, parameters = explore_sql.source(question, ("domain_source",))
    span, more = _span(question)
    columns = ", ".join(f"{text} AS {name}" for name, text in _share().items())
    read = f"(SELECT sum(f.count) FROM names AS f WHERE {span})"  # noqa: S608
    return f"SELECT {columns}, {read} AS read FROM ({source}) AS u", {**parameters, **more}  # noqa: S608


def queries(question: Question) -> tuple[str, Parameters]:
    """DNS transactions by name and type, the most frequent first."""
    more = f"uniqExact(f.client) AS clients, uniqExact(f.server) AS servers, {_LATENCIES}, {_answers()}"
    return _transactions(question, {"name": "f.name", "qtype": QTYPE}, _ASKED, more)


def failures(question: Question) -> tuple[str, Parameters]:
    """Those that were answered by an error, or not at all, by name, type and code."""
    more = (
        "uniqExact(f.client) AS clients, uniqExact(f.server) AS servers, any(f.server) AS server,"
        " max(f.window_begin) AS last"
    )
    return _transactions(question, {"name": "f.name", "qtype": QTYPE, "rcode": RCODE}, _FAILED, more)


def latency(question: Question) -> tuple[str, Parameters]:
    """How long servers took to answer, in microseconds; percentiles are of the means of rows of the table."""
    return _transactions(question, {"server": "f.server"}, _DNS, f"uniqExact(f.client) AS clients, {_LATENCIES}")


def unseen(question: Question) -> tuple[str, Parameters]:
    """Clients of a node that saw their flows and none of their DNS, those of most bytes first."""
    source, parameters = explore_sql.source(question, ("node", "src_addr", "domain"))
    span, more = _span(question)
    sql = f"""
SELECT u.node AS node, u.src_addr AS client, {explore_sql.sums()},
       sumIf(u.bytes + u.bytes_rev, u.domain != '') AS named_bytes, count() OVER () AS total_clients
FROM ({source}) AS u
WHERE (u.node, u.src_addr) NOT IN (SELECT f.node, f.client FROM names AS f WHERE {span} AND {_ASKED})
GROUP BY node, client
ORDER BY bytes + bytes_rev DESC, node, client
LIMIT {{limit:UInt64}}"""  # noqa: S608
    return sql.strip(), {**parameters, **more}


VIEWS: dict[str, Callable[[Question], tuple[str, Parameters]]] = {
    "domains": domains,
    "queries": queries,
    "failures": failures,
    "latency": latency,
    "unseen": unseen,
}
"""What may be asked, with `limit` as a further parameter."""


def named(row: Mapping[str, Any]) -> dict[str, Any]:
    """The share of a row of `share` or `domains`: `bytes`, `packets`, `records` of all flows, and `named` of these."""
    by_source = {source: {count: int(row[f"named_{count}_{source}"]) for count in COUNTS} for source in SOURCES}
    return {
        "total": {count: int(row[f"total_{count}"]) for count in COUNTS},
        "named": {count: sum(each[count] for each in by_source.values()) for count in COUNTS},
        "by_source": {source: each for source, each in by_source.items() if each["records"]},
    }


def rows_of(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a view by themselves; of `domains` those that have one."""
    return [
        {
            name: value
            for name, value in row.items()
            if not name.startswith(("total_", "named_bytes_", "named_packets_", "named_records_"))
        }
        for row in rows
        if row.get("domain") != ""
    ]


def _share() -> dict[str, str]:
    both = {"bytes": "u.bytes + u.bytes_rev", "packets": "u.packets + u.packets_rev", "records": "u.records"}
    return {f"total_{count}": f"sum({text})" for count, text in both.items()} | {
        f"named_{count}_{source}": f"sumIf({text}, u.domain_source = '{source}')"
        for source in SOURCES
        for count, text in both.items()
    }


def _transactions(question: Question, by: Mapping[str, str], where: str, more: str) -> tuple[str, Parameters]:
    chosen = compile_filter(_of_names(question.flow_filter), COLUMNS)
    span, parameters = _span(question)
    keys = ", ".join(f"{text} AS {name}" for name, text in by.items())
    outcomes = ", ".join(f"{text} AS {name}" for name, text in _OUTCOMES.items())
    totals = ", ".join(f"sum({text}) OVER () AS total_{name}" for name, text in _OUTCOMES.items())
    sql = f"""
SELECT {keys}, {outcomes}, {more}, {totals}
FROM names AS f
WHERE {span} AND {where} AND {chosen.keys} AND {chosen.measures}
GROUP BY {", ".join(by)}
ORDER BY transactions DESC, {", ".join(by)}
LIMIT {{limit:UInt64}}"""  # noqa: S608
    return sql.strip(), {**parameters, **chosen.parameters}


def _answers() -> str:
    return "argMax(f.answers, f.window_begin) AS answers"


def _span(question: Question) -> tuple[str, Parameters]:
    plan = question.plan()
    span = (
        "f.window_begin >= toDateTime({names_first:UInt32}, 'UTC')"
        " AND f.window_begin < toDateTime({names_last:UInt32}, 'UTC')"
    )
    return span, {"names_first": plan.since, "names_last": plan.until}


def _of_names(flow_filter: Filter) -> Filter:
    """Raises QueryError for what only flows have."""
    for field in flow_filter.fields().values():
        if not set(field.columns) <= COLUMNS.keys():
            raise QueryError(
                f"DNS transactions have no {field.name}; what they have are {', '.join(COLUMNS)} and addr, the client"
                " being src_addr and the server dst_addr"
            )
    return flow_filter
