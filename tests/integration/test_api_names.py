"""`/api/names` and tops by domain: what they say has a name is, to the byte, what the flows of the filter have."""

from typing import Any

import dns.message
import pytest
from starlette.testclient import TestClient

from common import settings as settings_module
from common.settings import Settings
from console.query import filters, names_sql
from console.query.match import matches
from tests.integration.fix_api import FLOWS, RANGE, api_client, top
from tests.unit.console.names.servers import ptr, serving
from tests.waiting import until

pytestmark = pytest.mark.clickhouse
FILTERS = [
    "",
    "protocol = tcp",
    "addr in 10.0.0.0/8 and not domain = .example.org",
    "domain_source in (sni, dns) or bytes > 2k",
    "domain = ''",
    "ja4 != '' and domain ~ WWW",
    "node = nowhere",
]


def names(api: TestClient, **parameters: Any) -> dict[str, Any]:
    return asked(api, "names", **parameters)


def asked(api: TestClient, route: str, **parameters: Any) -> dict[str, Any]:
    answer = api.get(f"/api/{route}", params={**RANGE, **parameters})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def both(flow: dict[str, Any]) -> int:
    total: int = flow["bytes"] + flow["bytes_rev"]
    return total


def chosen(text: str) -> list[dict[str, Any]]:
    return [flow for flow in FLOWS if matches(filters.parse(text), flow)]


@pytest.mark.parametrize("text", FILTERS)
@pytest.mark.parametrize("view", names_sql.VIEWS)
def test_the_share_is_that_of_the_flows_to_the_byte(api: TestClient, view: str, text: str) -> None:
    if view in {"queries", "failures", "latency"} and "bytes" in text:
        assert api.get("/api/names", params={**RANGE, "view": view, "filter": text}).status_code == 400
        return
    share = names(api, view=view, filter=text)["share"]
    flows = chosen(text)
    assert share["total"]["bytes"] == sum(map(both, flows))
    assert share["total"]["packets"] == sum(flow["packets"] + flow["packets_rev"] for flow in flows)
    assert share["named"]["bytes"] == sum(both(flow) for flow in flows if flow["domain"])
    assert {source: each["bytes"] for source, each in share["by_source"].items()} == {
        source: sum(both(flow) for flow in flows if flow["domain_source"] == source)
        for source in {flow["domain_source"] for flow in flows} - {""}
    }


@pytest.mark.parametrize("text", FILTERS)
def test_domains_have_what_their_flows_have(api: TestClient, text: str) -> None:
    flows = chosen(text)
    rows = {row["domain"]: row for row in names(api, filter=text, limit=100)["rows"]}
    assert rows.keys() == {flow["domain"] for flow in flows} - {""}
    for domain, row in rows.items():
        own = [flow for flow in flows if flow["domain"] == domain]
        assert both(row) == sum(map(both, own))
        assert row["sources"] == sorted({flow["domain_source"] for flow in own})
        assert (row["clients"], row["servers"]) == (
            len({flow["src_addr"] for flow in own}), len({flow["dst_addr"] for flow in own}),
        )  # fmt: skip
    # and a top by domain says the same, from both sides too
    assert {row["domain"]: both(row) for row in top(api, by="domain", filter=text, limit=100)["rows"]} == {
        domain: sum(both(flow) for flow in flows if flow["domain"] == domain)
        for domain in {flow["domain"] for flow in flows}
    }
    for by in ("domain", "domain,addr", "pair,domain"):
        total = top(api, by=by, filter=text, limit=1)["total"]
        assert total["named_bytes"] == sum(both(flow) for flow in flows if flow["domain"])
        assert total["bytes"] + total["bytes_rev"] == sum(map(both, flows))
        for measure in ("bytes", "packets"):
            share = asked(api, "series", by=by, filter=text, limit=2, measure=measure)["share"]
            assert share == {
                "total": {"bytes": sum(map(both, flows))},
                "named": {"bytes": sum(both(flow) for flow in flows if flow["domain"])},
            }
    assert "share" not in asked(api, "series", by="protocol", filter=text)


@pytest.mark.parametrize("text", FILTERS)
def test_a_page_of_history_says_how_much_of_it_has_a_name(api: TestClient, text: str) -> None:
    page = asked(api, "history", filter=text, limit=7)
    assert page["share"]["total"]["bytes"] == sum(map(both, page["flows"]))
    assert page["share"]["named"]["bytes"] == sum(both(flow) for flow in page["flows"] if flow["domain"])
    assert page["share"]["by_source"] == {
        source: {"bytes": sum(both(flow) for flow in page["flows"] if flow["domain_source"] == source)}
        for source in {flow["domain_source"] for flow in page["flows"]} - {""}
    }


def test_without_transactions_that_is_said(api: TestClient) -> None:
    for view in names_sql.VIEWS:
        answer = names(api, view=view)
        assert answer["read"] == 0
        assert answer["view"] == view
        assert bool(answer["rows"]) == (view in {"domains", "unseen"})


def test_a_mistake_names_what_would_be_right(api: TestClient) -> None:
    answer = api.get("/api/names", params={"view": "latency", "filter": "src_port = 1"})
    assert answer.status_code == 400
    assert "DNS transactions have no src_port" in answer.json()["error"]
    assert api.get("/api/names", params={"view": "all"}).status_code == 400
    assert "did you mean view" in api.get("/api/names", params={"views": "latency"}).json()["error"]


def test_reverse_dns_stands_beside_addresses_and_is_marked(stored: Settings) -> None:
    def answer(question: dns.message.Message) -> list[bytes]:
        known = question.question[0].name.to_text() == "55.2.0.192.in-addr.arpa."
        return [ptr(question, *(["host.example."] if known else [])).to_wire()]

    with serving(answer) as server:
        flags = {
            "clickhouse.url": stored.clickhouse.url,
            "clickhouse.database": stored.clickhouse.database,
            "kafka.bootstrap_servers": "127.0.0.1:1",
            "names.reverse": True,
            "names.reverse_servers": server.at,
        }
        with api_client(settings_module.load(flags=flags)) as api:
            until(
                lambda: any("reverse" in row for row in top(api, by="dst_addr", limit=100)["rows"]),
                lambda: server.asked,
            )
            rows = {row["dst_addr"]: row.get("reverse") for row in top(api, by="dst_addr", limit=100)["rows"]}
            assert rows.pop("192.0.2.55") == {"dst_addr": "host.example"}
            assert set(rows.values()) == {None}
            flows = api.get("/api/history", params={**RANGE, "limit": 1000}).json()["flows"]
            named = [flow for flow in flows if flow["domain_source"] == "reverse"]
            assert {(flow["dst_addr"], flow["domain"]) for flow in named} == {("192.0.2.55", "host.example")}
            assert all(flow["domain"] for flow in flows if flow["dst_addr"] == "192.0.2.55")
            # what is stored, and so what filters and sums see, is what was read
            assert names(api, filter='domain_source not in ("", sni, http, quic, dns)')["share"]["total"]["bytes"] == 0
            assert 'ayaflow_console_reverse_lookups_total{result="found"} 1.0' in api.get("/metrics").text
            assert len(server.asked) == len(set(server.asked))
