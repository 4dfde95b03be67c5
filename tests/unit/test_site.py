"""docs/ as a site: MkDocs finds each page, link and anchor, and nothing is asked of other servers."""

import re
from pathlib import Path

from mkdocs.commands.build import build
from mkdocs.config import load_config

from tests.unit.test_imports import ROOT


def test_the_site_is_built_and_each_link_leads_somewhere(tmp_path: Path) -> None:
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site")))  # strict: it raises
    pages = {path.relative_to(tmp_path / "site").as_posix() for path in tmp_path.rglob("*.html")}
    assert {"index.html", "operations.html", "consumers/flink.html", "CHANGELOG.html"} <= pages
    asked = re.findall(
        r'<(?:script|link)[^>]+(?:src|href)="(https?:[^"]+)', (tmp_path / "site/operations.html").read_text()
    )
    assert asked == []
