"""What a folder imports from outside is what its extra of the package brings."""

import sys
from functools import cache
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cli.extras import EXTRAS, problem
from cli.main import cli
from tests.unit.test_imports import LAYERS, libraries, modules, name_of

FOLDERS = {  # folder: the extras that its users have; which of schemas need Arrow, tests/ship shows
    "bpf": (),
    "common": ("streams",),
    "schemas": ("streams",),
    "ayaflow": ("consume",),
    "producer": ("producer",),
    "streams": ("streams",),
    "console": ("console",),
    "deploy": ("local",),
    "cli": ("console",),
}
NOT_PIPS = {"bcc"}  # Debian's python3-bpfcc


@cache
def distributions(requirement: str) -> frozenset[str]:
    """`name[extra,…]` -> the names of it and of all that it requires here."""
    found: set[str] = set()
    waiting, seen = [Requirement(requirement)], set[Requirement]()
    while waiting:
        asked = waiting.pop()
        if asked in seen:
            continue
        seen.add(asked)
        found.add(canonicalize_name(asked.name))
        for line in metadata.requires(asked.name) or ():
            wanted = Requirement(line)
            if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in {"", *asked.extras}):
                waiting.append(wanted)
    return frozenset(found)


@pytest.mark.parametrize("folder", LAYERS)
def test_a_folder_imports_only_what_its_extra_brings(folder: str) -> None:
    brought = distributions(f"ayaflow[{','.join(FOLDERS[folder])}]")
    owners = metadata.packages_distributions()
    for path in modules():
        if name_of(path).startswith(f"{folder}."):
            outside = libraries(path) - sys.stdlib_module_names - LAYERS.keys() - NOT_PIPS
            for library in outside:
                names = {canonicalize_name(name) for name in owners.get(library, [library])}
                assert names & brought, f"{path} imports {library}, which ayaflow[{FOLDERS[folder]}] does not bring"


def test_a_node_does_not_carry_what_only_others_need() -> None:
    heavy = {"chdb", "fastapi", "faust-streaming", "pandas", "plotly", "pyarrow", "uvicorn"}
    assert not distributions("ayaflow[producer]") & heavy
    assert heavy <= distributions("ayaflow[local]")


def test_each_command_that_needs_an_extra_is_known() -> None:
    assert cli.commands.keys() - {"hash-token", "completion", "version"} == EXTRAS.keys()
    assert {extra for extras in EXTRAS.values() for extra in extras.split(",")} <= set(
        metadata.metadata("ayaflow").get_all("Provides-Extra") or ()
    )


def test_a_missing_library_is_a_sentence_and_a_missing_module_of_ours_is_a_fault() -> None:
    assert "pip install 'ayaflow[streams]'" in str(problem("streams", "faust.types"))
    assert problem("streams", "streams.windowing.none") is None
    assert problem("version", "faust") is None
