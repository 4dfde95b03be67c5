"""The dashboard's files: the page at /, its modules and style sheets, and the chart library. Knows no data.

Everything comes from this machine: the files of `console/static`, and plotly.js from where the package `plotly` is
installed. The page may run these scripts and no other (see `content_security_policy`).
"""

import base64
import functools
import gzip
import hashlib
import importlib.resources
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

CHARTS = "vendor/plotly.min.js"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# plotly.js makes an empty style element and fills it through the CSSOM, and one with the style of its maps
_STYLE = re.compile(r"""createElement\("style"\);[^;]{0,200}?\.textContent=(['"`])(.*?)(?<!\\)\1""", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file as it is sent."""

    body: bytes
    packed: bytes  # the same by gzip
    media_type: str
    etag: str  # of the content, weak: packed or not

    @classmethod
    def of(cls, path: Path) -> "File":
        """Read and pack it."""
        body = path.read_bytes()
        return cls(
            body=body,
            packed=gzip.compress(body, 6, mtime=0),
            media_type=_TYPES[path.suffix],
            etag=f'W/"{hashlib.sha256(body).hexdigest()[:32]}"',
        )


def router() -> APIRouter:
    """`/` and `/static/…`, without `/api`."""
    routes = APIRouter(include_in_schema=False)

    @routes.head("/")
    @routes.get("/")
    def index(request: Request) -> Response:
        answer = _send(request, _files()["index.html"])
        answer.headers["Content-Security-Policy"] = content_security_policy()
        answer.headers["Referrer-Policy"] = "no-referrer"
        return answer

    @routes.get(f"/static/{CHARTS}")
    def charts(request: Request) -> Response:
        """A plain function: packing it takes 0.2 s, in a thread of the pool."""
        path = chart_library()
        if path is None:
            return JSONResponse({"error": "the package plotly is not installed; run make setup"}, 404)
        return _send(request, _read(path))

    @routes.get("/static/{name}")
    def static(request: Request, name: str) -> Response:
        file = _files().get(name)
        if file is None or name == "index.html":
            return JSONResponse({"error": f"the dashboard has no file {name!r}"}, 404)
        return _send(request, file)

    return routes


@functools.cache
def content_security_policy() -> str:
    """What the page may load: this origin alone; no inline script, no eval; of inline styles, the chart library's."""
    hashes = " ".join(f"'sha256-{one}'" for one in _chart_styles())
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            f"style-src 'self' {hashes}",
            "img-src 'self' data: blob:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def chart_library() -> Path | None:
    """Where plotly.js is installed; None when it is not. Does not import plotly, which takes seconds."""
    spec = importlib.util.find_spec("plotly")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder, "package_data", "plotly.min.js")
        if path.is_file():
            return path
    return None


def _chart_styles() -> list[str]:
    path = chart_library()
    code = path.read_text(encoding="utf-8") if path else ""
    styles = ["", *(match[2] for match in _STYLE.finditer(code))]
    return [base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() for style in styles]


@functools.cache
def _files() -> dict[str, File]:
    with importlib.resources.as_file(importlib.resources.files("console") / "static") as folder:
        return {path.name: File.of(path) for path in sorted(folder.iterdir()) if path.suffix in _TYPES}


@functools.cache
def _read(path: Path) -> File:
    return File.of(path)


def _send(request: Request, file: File) -> Response:
    """Browsers keep it, and ask whether it is still the one."""
    headers = {
        "ETag": file.etag,
        "Cache-Control": "no-cache",
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
    }
    if file.etag in request.headers.get("If-None-Match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        return Response(file.packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=file.media_type)
    return Response(file.body, headers=headers, media_type=file.media_type)
