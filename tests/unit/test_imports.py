"""The house: which folder may import what, that nothing runs in circles, and that pure modules are pure.

Imports inside functions count like those at the top of a module.
"""

import ast
import importlib
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LAYERS = {  # folder: folders of ours that it may import; from the ground up
    "bpf": set[str](),
    "common": {"common"},
    "schemas": {"common", "schemas"},
    "ayaflow": {"common", "schemas", "ayaflow"},
    "producer": {"common", "schemas", "producer"},
    "streams": {"common", "schemas", "streams"},
    "console": {"common", "schemas", "console"},
    "deploy": {"common", "schemas", "producer", "console", "deploy"},
    "cli": {"common", "schemas", "producer", "streams", "console", "deploy", "cli"},
}

HEAVY = {  # library: folders or files that may import it
    "aiohttp": ("deploy/local/clickhouse/",),
    "bcc": ("producer/kernel/environment.py",),
    "chdb": ("deploy/local/clickhouse/",),
    "click": ("cli/",),
    "clickhouse_connect": ("common/clickhouse.py", "streams/store/", "console/store/"),
    "confluent_kafka": (
        "common/backlog.py",
        "ayaflow/consume/source.py",
        "common/kafka.py",
        "schemas/",
        "producer/",
        "streams/",
        "console/",
        "deploy/local/",
    ),
    "cryptography": ("producer/names/parsers/quic.py", "deploy/local/demo/world.py"),
    "dns": ("console/names/",),
    "fastapi": ("console/",),
    "faust": ("streams/",),
    "mode": ("streams/",),
    "pyroute2": ("producer/interfaces/attach/filters.py",),
    "rich": ("cli/", "console/show/", "deploy/local/up/"),
    "uvicorn": ("console/",),
}

IO_LIBRARIES = {
    "aiohttp",
    "asyncio",
    "clickhouse_connect",
    "confluent_kafka",
    "faust",
    "httpx",
    "os",
    "requests",
    "socket",
    "subprocess",
    "threading",
    "urllib",
}
MOST_MODULES = 14
ENTRY_POINTS = {  # what a user starts, beside cli/: only there all settings are at hand; a part is given its section
    "console.app",
    "console.audit.run",  # asks the neighbours, too
    "console.health",  # asks every stage
    "deploy.local.clickhouse.server",
    "deploy.local.demo.run",
    "deploy.local.kafka.broker",
    "deploy.local.up.preflight",  # asks for every stage
    "deploy.local.up.run",
    "producer.component",
    "producer.detach",
    "producer.parts",  # hands them out for component
    "streams.component",
    "streams.rewindow.run",
}


def modules() -> list[Path]:
    return [path for folder in LAYERS for path in sorted((ROOT / folder).rglob("*.py")) if "jars" not in path.parts]


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@cache
def tree(path: Path) -> ast.Module:
    """Of a module's source, which is parsed once for all tests."""
    return ast.parse(path.read_text())


@cache
def imports(path: Path) -> frozenset[str]:
    """Dotted names of all that a module imports."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def libraries(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


@cache
def arrows() -> dict[str, frozenset[str]]:
    """Module of ours -> the modules of ours that it imports."""
    names = {name_of(path) for path in modules()}

    def module(imported: str) -> str:
        return imported if imported in names else imported.rpartition(".")[0]

    return {
        name_of(path): frozenset(names & {module(imported) for imported in imports(path)}) - {name_of(path)}
        for path in modules()
    }


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Names that import each other in a circle; empty when there is none."""
    left = {name: set(targets) for name, targets in graph.items()}
    while ground := [name for name, targets in left.items() if not targets & left.keys()]:
        for name in ground:
            del left[name]
    return sorted(left)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_folder_may(path: Path) -> None:
    name, names = str(path.relative_to(ROOT)), libraries(path)
    for library, places in HEAVY.items():
        assert library not in names or name.startswith(places), f"{name} imports {library}"
    allowed = LAYERS[name.partition("/")[0]]
    assert names & LAYERS.keys() <= allowed, f"{name} imports {names & LAYERS.keys() - allowed}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert not circle({name: set(targets) for name, targets in arrows().items()})


@pytest.mark.parametrize("folder", [*LAYERS, "deploy/local"])
def test_no_arrow_runs_back_up_between_the_packages_of_a_folder(folder: str) -> None:
    prefix = folder.replace("/", ".") + "."

    def room(module: str) -> str:  # a package of the folder, or a module that stands in it
        return prefix + module.removeprefix(prefix).partition(".")[0]

    graph: dict[str, set[str]] = {}
    for name, targets in arrows().items():
        if name.startswith(prefix):
            inside = {room(target) for target in targets if target.startswith(prefix)}
            graph.setdefault(room(name), set()).update(inside - {room(name)})
    assert not circle(graph)


def test_nobody_imports_the_command_line() -> None:
    assert not [
        name
        for name, targets in arrows().items()
        if not name.startswith("cli.")
        for target in targets
        if target.startswith("cli.")
    ]


def test_no_folder_is_crowded() -> None:
    count = Counter(path.parent.relative_to(ROOT) for path in modules() if path.name != "__init__.py")
    assert not {str(folder): number for folder, number in count.items() if number > MOST_MODULES}


def takes_all_settings(path: Path) -> bool:
    return any(name.startswith("common.settings") and name.endswith(".Settings") for name in imports(path)) or any(
        isinstance(node, ast.Attribute) and node.attr == "Settings" for node in ast.walk(tree(path))
    )


def test_a_part_is_given_its_section_and_not_all_settings() -> None:
    found = {name_of(path) for path in modules() if takes_all_settings(path)}
    assert {name for name in found if not name.startswith(("cli.", "common.settings."))} == ENTRY_POINTS


def test_clients_of_kafka_and_clickhouse_are_made_in_one_place() -> None:
    makers = {
        "common/kafka.py": {
            "confluent_kafka.Consumer",
            "confluent_kafka.Producer",
            "confluent_kafka.admin.AdminClient",
        },
        "common/clickhouse.py": {"clickhouse_connect"},
    }
    for path in modules():
        for place, names in makers.items():
            assert (place == str(path.relative_to(ROOT))) is bool(names & imports(path)), f"{path}: see {place}"


def test_what_tests_import_of_ours_exists() -> None:
    """Those that need a kernel or a Kafka are not run with each change, and mypy does not read them."""
    missing = []
    for path in sorted(path for path in (ROOT / "tests").rglob("*.py") if ".work" not in path.parts):
        for name in imports(path):
            if name.partition(".")[0] in LAYERS and "." in name:
                module, _, what = name.rpartition(".")
                if not hasattr(importlib.import_module(module), what):
                    try:
                        importlib.import_module(name)
                    except ImportError:
                        missing.append(f"{path.relative_to(ROOT)}: {name}")
    assert not missing


def pure() -> list[Path]:
    """Modules that say so in their docstring."""
    return [path for path in modules() if re.search(r"\bPure[.,:;]", ast.get_docstring(tree(path)) or "")]


@pytest.mark.parametrize("path", pure(), ids=lambda path: str(path.relative_to(ROOT)))
def test_pure_modules_do_no_io(path: Path) -> None:
    assert not libraries(path) & IO_LIBRARIES


def test_the_heart_of_each_part_is_pure() -> None:
    names = {name_of(path) for path in pure()}
    assert names >= {
        "producer.capture.epochs",
        "producer.kafka.outbox",
        "producer.names.reader",
        "streams.partition.state",
        "streams.windowing.windows",
        "console.audit.model",
        "console.query.filters",
        "deploy.local.up.stages",
    }
