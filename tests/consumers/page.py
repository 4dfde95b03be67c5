"""A page of docs/consumers, cut into what it tells people to write and to run.

Files are code blocks below a line that begins with the file's name in backquotes. Commands are the lines with `$ ` in
the `console` blocks of `## Install` and `## Run`.
"""

import re
from dataclasses import dataclass
from pathlib import Path

PAGES = Path(__file__).parents[2] / "docs" / "consumers"
_FILE = re.compile(r"^`([\w./-]+)`[^\n]*\n+```[\w-]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What stands on it."""

    title: str  # language: library version
    files: dict[str, str]
    install: tuple[str, ...]  # commands that may ask registries
    run: tuple[str, ...]

    def write(self, folder: Path) -> None:
        """The files, into a folder."""
        for name, text in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists() or path.read_text() != text:  # what is built from it stays as new as it is
                path.write_text(text)


def read(name: str) -> Page:
    """Cut up docs/consumers/NAME.md."""
    return cut((PAGES / f"{name}.md").read_text())


def cut(text: str) -> Page:
    """Cut up the text of a page."""
    title, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    by_name = {section.partition("\n")[0]: section for section in sections}
    return Page(
        title=title.partition("\n")[0].removeprefix("# "),
        files=dict(_FILE.findall(text)),
        install=_commands(by_name.get("Install", "")),
        run=_commands(by_name.get("Run", "")),
    )


def _commands(section: str) -> tuple[str, ...]:
    return tuple(
        line.removeprefix("$ ")
        for block in _CONSOLE.findall(section)
        for line in block.splitlines()
        if line.startswith("$ ")
    )
