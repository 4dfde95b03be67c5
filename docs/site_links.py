"""Hooks of MkDocs: pages beside docs/, README.md first, and files that pages link to are in the site, too."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
MERMAID = ROOT / ".venv/mermaid/node_modules/mermaid/dist/mermaid.min.js"  # make site installs it
_LINK = re.compile(r"(\]\()([^)#\s]+)(#[^)\s]*)?(\))")
PAGES = {"README.md": "index.md", **{name: name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")}}
"""Pages beside docs/, and what the site calls them."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Write out the patterns of `nav`."""
    config.nav = _written_out(config.nav, Path(config.docs_dir))
    if MERMAID.exists():
        config.extra_javascript = ["mermaid.min.js"]
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add what is not in docs/."""
    for name, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / name)))
    if MERMAID.exists():
        files.append(File.generated(config, "mermaid.min.js", abs_src_path=str(MERMAID)))
    linked = {
        target
        for file in [*files.documentation_pages()]
        for _, link, _, _ in _LINK.findall(file.content_string)
        if (target := _in_repository(link, file.src_uri)) and not target.startswith("docs/")
    }
    for target in sorted(linked - PAGES.keys()):
        if (ROOT / target).is_file():  # another one is a link that leads nowhere, which MkDocs says
            files.append(File.generated(config, target, abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Let links lead to where their targets are in the site."""
    here = page.file.src_uri

    def moved(match: re.Match[str]) -> str:
        target = _in_repository(match[2], here)
        if target is None:
            return match[0]
        there = PAGES.get(target, target.removeprefix("docs/"))
        return f"{match[1]}{posixpath.relpath(there, posixpath.dirname(here) or '.')}{match[3] or ''}{match[4]}"

    return _LINK.sub(moved, markdown)


def _in_repository(link: str, page: str) -> str | None:
    """The path of what a page links to; None: it is not of the repository."""
    if re.match(r"[a-z]+:|/", link):
        return None
    folder = "" if page in PAGES.values() else posixpath.join("docs", posixpath.dirname(page))
    path = posixpath.normpath(posixpath.join(folder, link))
    inside = sorted(each.name for each in (ROOT / path).glob("*") if each.is_file())
    return posixpath.join(path, "README.md" if "README.md" in inside else inside[0]) if inside else path  # of a folder


def _written_out(nav: Any, docs: Path) -> Any:
    if isinstance(nav, list):
        return [each for entry in nav for each in _entries(entry, docs)]
    return {title: _written_out(value, docs) for title, value in nav.items()} if isinstance(nav, dict) else nav


def _entries(entry: Any, docs: Path) -> list[Any]:
    if isinstance(entry, str) and "*" in entry:
        return sorted(str(path.relative_to(docs)) for path in docs.glob(entry))
    return [_written_out(entry, docs)]
