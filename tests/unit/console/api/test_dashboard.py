"""The dashboard's files over the router's own ASGI interface."""

import base64
import gzip
import hashlib
import re
import sys
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from console.api import dashboard

STATIC = Path(dashboard.__file__).parents[1] / "static"


@pytest.fixture(scope="module")
def opened() -> TestClient:
    app = FastAPI()
    app.include_router(dashboard.router())
    return TestClient(app)


def test_the_page_allows_its_own_scripts_and_no_inline_ones(opened: TestClient) -> None:
    page = opened.get("/")
    policy = dict(rule.split(" ", 1) for rule in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert "unsafe" not in page.headers["content-security-policy"]
    assert policy["frame-ancestors"] == "'none'"
    assert re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", page.text) is None


def test_of_inline_styles_only_those_of_the_chart_library_are_allowed(opened: TestClient) -> None:
    allowed = set(re.findall(r"'sha256-([^']+)'", opened.get("/").headers["content-security-policy"]))
    library = dashboard.chart_library()
    assert library is not None
    maps = re.search(r"\.textContent='(\.maplibregl-map\{.*?)'", library.read_text(), re.DOTALL)
    assert maps is not None
    assert allowed == {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in ("", maps[1])}


@pytest.mark.parametrize("file", sorted(path.name for path in STATIC.iterdir()))
def test_each_file_refers_only_to_files_that_are_served(opened: TestClient, file: str) -> None:
    text = (STATIC / file).read_text()
    names = re.findall(r'(?:src|href)="(/static/[^"]+)"', text) + [
        f"/static/{name}" for name in re.findall(r'from "\./([^"]+)"', text)
    ]
    assert [name for name in names if opened.get(name).status_code != 200] == []
    assert re.search(r"https?://(?!www\.w3\.org/)", text) is None, "the dashboard works without the Internet"


def test_no_script_writes_markup() -> None:
    wrong = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function")
    assert [path.name for path in STATIC.glob("*.js") if wrong.search(path.read_text())] == []


def test_every_id_that_a_script_asks_for_is_in_the_page() -> None:
    page = (STATIC / "index.html").read_text()
    ids = set(re.findall(r'\bid="([^"]+)"', page))
    asked = {name for path in STATIC.glob("*.js") for name in re.findall(r'byId\("([\w-]+)"\)', path.read_text())}
    assert asked - ids == set()
    assert len(ids) == len(re.findall(r'\bid="', page)), "an id is there twice"


def test_the_chart_library_is_that_of_the_installed_package_and_comes_packed(opened: TestClient) -> None:
    answer = opened.get(f"/static/{dashboard.CHARTS}", headers={"Accept-Encoding": "gzip"})
    library = dashboard.chart_library()
    assert library is not None
    assert answer.content == library.read_bytes()
    assert answer.headers["content-encoding"] == "gzip"
    assert int(answer.headers["content-length"]) < library.stat().st_size / 3
    assert "plotly" not in sys.modules


def test_a_browser_that_has_a_file_is_not_sent_it_again(opened: TestClient) -> None:
    first = opened.get("/static/app.js", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in first.headers
    assert first.headers["content-type"] == "text/javascript; charset=utf-8"
    again = opened.get("/static/app.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert opened.get("/static/app.js", headers={"If-None-Match": 'W/"another"'}).status_code == 200
    assert gzip.decompress(dashboard._files()["app.js"].packed) == first.content


@pytest.mark.parametrize("path", ["nope.js", "..%2fhttp.py", "%2e%2e/http.py", "index.html", "vendor/x"])
def test_nothing_else_can_be_read(opened: TestClient, path: str) -> None:
    assert opened.get(f"/static/{path}").status_code == 404
