"""Which folder may import what: heavy and privileged libraries stay where they belong."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("common", "schemas", "producer", "streams", "console", "deploy")

ALLOWED = {  # library: folders or files that may import it
    "bcc": ("producer/",),
    "pyroute2": ("producer/",),
    "faust": ("streams/",),
    "mode": ("streams/",),
    "chdb": ("deploy/local/",),
    "clickhouse_connect": ("streams/sink.py", "streams/migrate.py", "console/"),
    "rich": ("console/", "deploy/local/"),
    "fastapi": ("console/",),
}

LAYERS = {  # folder: folders of ours that it may import
    "common": {"common"},
    "schemas": {"common", "schemas"},
    "producer": {"common", "schemas", "producer"},
    "streams": {"common", "schemas", "streams"},
}

PURE = (
    "producer/batch.py", "producer/clock.py", "producer/event.py", "producer/hook.py",
    "producer/outbox.py", "producer/topology.py", "schemas/packets.py", "schemas/flows.py",
    "streams/rows.py", "streams/accounting.py", "streams/biflow.py", "streams/keys.py", "streams/live.py",
    "streams/partition.py", "streams/progress.py", "streams/rings.py", "streams/watermark.py", "streams/windows.py",
    "console/audit.py", "console/filters.py", "console/times.py",
)  # fmt: skip
IO_LIBRARIES = {"os", "socket", "subprocess", "asyncio", "threading", "urllib", "confluent_kafka", "faust"}


def modules() -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")) if "jars" not in path.parts]


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_folder_may(path: Path) -> None:
    name, names = str(path.relative_to(ROOT)), imports(path)
    for library, places in ALLOWED.items():
        assert library not in names or name.startswith(places), f"{name} imports {library}"
    folder = name.partition("/")[0]
    if folder in LAYERS:
        assert names & set(FOLDERS) <= LAYERS[folder], f"{name} imports {names & set(FOLDERS) - LAYERS[folder]}"


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_do_no_io(name: str) -> None:
    assert not imports(ROOT / name) & IO_LIBRARIES
