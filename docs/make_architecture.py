"""Writes docs/architecture.md from imports and first sentences (`make docs`); a test fails when they differ."""

import ast
import re
from collections import defaultdict
from pathlib import Path

from tests.unit.test_imports import LAYERS, ROOT, arrows, modules, tree

PAGE = Path(__file__).parent / "architecture.md"

HEAD = """# Architecture

Which package imports which, and what each module is for. This page is written from the code by `make docs`: the arrows
are imports, those inside functions too, the sentences are the modules' own. [internals.md](internals.md) says where to
begin, [design.md](design.md) why it is so.

## Packages

An arrow points to what is imported. Between folders only the nearest is drawn: what is reached by another folder is not
drawn again. `bpf/` is read by `producer`, not imported.

"""
_COMMENT = {".c": r"/\*(.*?)\*/", ".h": r"/\*(.*?)\*/", ".js": r"//([^\n]*)"}


def sentence(text: str) -> str:
    """The first sentence of the first paragraph, for a cell of a table."""
    paragraph = " ".join(text.strip().split("\n\n")[0].replace("\n * ", " ").split())
    first = re.split(r"(?<=[^.]\.)\s", paragraph)[0]
    return first.replace("|", "\\|")


def purpose(path: Path) -> str:
    """What a file says it is for."""
    if path.suffix == ".py":
        return sentence(ast.get_docstring(tree(path)) or "")
    comments = [
        found for found in re.findall(_COMMENT[path.suffix], path.read_text(), re.DOTALL) if "SPDX" not in found
    ]
    return sentence(comments[0]) if comments else ""


def packages() -> dict[str, list[Path]]:
    """Folder -> its files that have a purpose of their own, in the order of LAYERS from the top."""
    found: dict[str, list[Path]] = defaultdict(list)
    for folder in reversed(LAYERS):
        files = [path for path in modules() if path.is_relative_to(ROOT / folder) and path.name != "__init__.py"]
        files += [path for kind in _COMMENT for path in (ROOT / folder).rglob(f"*{kind}") if "jars" not in path.parts]
        for path in sorted(files, key=lambda path: (path.parent, path.name)):
            found[str(path.parent.relative_to(ROOT))].append(path)
    return dict(found)


def nearest(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Arrows without those that another way through the graph makes."""

    def beyond(name: str, seen: frozenset[str] = frozenset()) -> set[str]:
        return {far for near in graph[name] - seen for far in (near, *beyond(near, seen | {near}))}

    return {
        name: {end for end in ends if not any(end in beyond(other) for other in ends - {end})}
        for name, ends in graph.items()
    }


def picture() -> str:
    """Mermaid: folders with their packages, from the top."""
    folders: dict[str, set[str]] = {folder: set() for folder in LAYERS}
    rooms: dict[str, set[str]] = defaultdict(set)
    for name, targets in arrows().items():
        here = _room(name)
        rooms[here] |= set()
        for target in targets:
            there = _room(target)
            if here.partition("/")[0] != there.partition("/")[0]:
                folders[here.partition("/")[0]].add(there.partition("/")[0])
            elif here != there:
                rooms[here].add(there)
    lines = ["```mermaid", "flowchart TD"]
    for folder in reversed(LAYERS):
        inside = sorted(room for room in rooms if room.partition("/")[0] == folder and room != folder)
        lines.append(f"  subgraph {folder}")
        lines += [f"    {_id(room)}[{room.partition('/')[2]}]" for room in inside]
        if not inside:
            lines.append(f"    {folder}_[{_members(folder)}]")
        lines += [f"    {_id(room)} --> {_id(end)}" for room in inside for end in sorted(rooms[room] - {folder})]
        lines.append("  end")
    lines += [f"  {folder} --> {end}" for folder, ends in nearest(folders).items() for end in sorted(ends)]
    return "\n".join([*lines, "```"])


def _room(module: str) -> str:
    """`producer/kernel` of producer.kernel.abi; `producer` of producer.watch."""
    path = ROOT / Path(*module.split("."))
    return str((path if path.is_dir() else path.parent).relative_to(ROOT))


def _id(room: str) -> str:
    return room.replace("/", "_")


def _members(folder: str) -> str:
    kinds = ("*.py", "*.c", "*.h")
    return " ".join(
        sorted(path.stem for kind in kinds for path in (ROOT / folder).glob(kind) if path.stem != "__init__")
    )


def table() -> str:
    """A heading a package, a line a module."""
    parts = []
    for package, files in packages().items():
        start = ROOT / package / "__init__.py"
        rows = [f"| `{path.name}` | {purpose(path)} |" for path in files]
        said = [purpose(start), ""] if start.exists() else []
        parts.append("\n".join([f"### {package}", "", *said, "| module | what it is for |", "|---|---|", *rows, ""]))
    return "\n".join(parts)


def page() -> str:
    """The whole page."""
    return f"{HEAD}{picture()}\n\n## Modules\n\n{table()}"


if __name__ == "__main__":
    PAGE.write_text(page())
