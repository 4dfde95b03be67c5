"""What must not be possible over the API: a parameter that is more than a value, a mistake without a sentence."""

import base64

import pytest
from starlette.testclient import TestClient

from tests.integration.fix_api import RANGE, top

pytestmark = pytest.mark.clickhouse


EVIL = (
    "'",
    "\\",
    "\\'",
    "' OR 1=1 --",
    "1; DROP TABLE flows",
    "{x:String}",
    "{f0:String}",
    "/* */",
    "-- ",
    "`",
    "\n",
    "\t",
    "');",
    "') UNION ALL SELECT 1 --",
    "%27",
    "\x00",
    "\ud7ff\uffff",
    "$$",
    "\\x27",
    "\U0001d4b3",
    "a\\nb",
    "\\N",
    "{since:UInt32}",
)
ROUTES = {
    "/api/live": ("filter", "node", "sort", "limit"),
    "/api/history": ("filter", "node", "since", "until", "limit", "cursor"),
    "/api/flows": ("filter", "node", "since", "until", "sort", "limit", "format"),
    "/api/top": ("by", "filter", "node", "since", "until", "sort", "limit"),
    "/api/series": ("by", "filter", "node", "since", "until", "measure", "limit", "points"),
    "/api/packets": ("filter", "node", "since", "until", "step_ms"),
    "/api/nodes": ("since", "until"),
    "/api/audit": ("since", "until", "node"),
}


@pytest.mark.parametrize("route", ROUTES)
def test_no_parameter_is_more_than_a_value(api: TestClient, route: str) -> None:
    described = api.get("/openapi.json").json()["paths"][route]["get"]["parameters"]
    assert {one["name"] for one in described} == {*ROUTES[route], "int64"}
    for name in ROUTES[route]:
        for evil in EVIL:
            answer = api.get(route, params={**(RANGE if "since" in ROUTES[route] else {}), name: evil})
            if name == "node" and "\0" not in evil:
                assert answer.status_code == 200, (name, evil, answer.text)
                assert "web1" not in answer.text  # it names no node
            elif answer.status_code != 200 or name not in {"since", "until"}:
                assert (
                    answer.status_code == 400
                    or (name == "by" and not evil.strip())
                    or (name in {"filter", "cursor"} and not evil.strip())
                ), (name, evil, answer.text)
                assert "Code:" not in answer.text  # it is refused before ClickHouse sees it


def test_values_in_filters_are_values(api: TestClient) -> None:
    for node in ("db'1", "back\\slash"):
        for operator in ("=", "in"):
            answer = top(api, by="node", filter=f'node {operator} "{node}"')
            assert [row["node"] for row in answer["rows"]] == [node]
    for evil in EVIL:
        if "\0" in evil or '"' in evil:
            continue
        assert top(api, by="node", filter=f'node = "{evil}" or interface in ("{evil}")')["rows"] == []


def test_a_mistake_is_a_sentence_with_a_status(api: TestClient) -> None:
    cases = {
        "/api/top?by=src": "did you mean",
        "/api/top?filtr=x": "did you mean filter?",
        "/api/top?limit=0": "limit",
        "/api/history?limit=1001": "limit",
        "/api/flows?format=xml": "format",
        "/api/top?since=now&until=1h": "not before",
        "/api/history?cursor=e30": "cursor",
        "/api/live?filter=tcp_flags=1": "no tcp_flags",
        "/api/top?by=node&by=x": "twice",
        "/api/top?by=pair,addr": "pair",
        "/api/top?by=node,node": "once",
        f"/api/history?cursor={base64.urlsafe_b64encode(b'[' * 5000).decode()}": "cursor",
    }
    for path, hint in cases.items():
        answer = api.get(path)
        assert answer.status_code == 400, path
        assert hint in answer.json()["error"], answer.text
    answer = api.get("/api/top", params={"filter": "port = 1 and dst_prt = 3"})
    assert answer.json()["column"] == 14
    assert api.post("/api/top").status_code == 405
