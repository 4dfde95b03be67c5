"""Files that travel alone say under which licence: C, JavaScript, style sheets, shell."""

from pathlib import Path

import pytest

from tests.unit.test_imports import LAYERS, ROOT

FOLDERS = [*LAYERS, "tests", ".ci"]
KINDS = (".c", ".h", ".js", ".css", ".sh")
FOREIGN = {"jars", "registry", ".work"}  # what the set-up fetched
FILES = [
    path
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*"))
    if (path.suffix in KINDS or path == ROOT / ".ci/run") and not FOREIGN & {*path.relative_to(ROOT).parts}
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_names_its_licence(path: Path) -> None:
    in_kernel = path.parent == ROOT / "bpf" or path.name.endswith(".bpf.c")
    first = path.read_text().splitlines()[1 if path.read_text().startswith("#!") else 0]
    wanted = "Apache-2.0 OR GPL-2.0-only" if in_kernel else "Apache-2.0"
    assert first.strip("/*# ") == f"SPDX-License-Identifier: {wanted}"


def test_there_are_such_files() -> None:
    assert {path.suffix for path in FILES} >= {*KINDS}
