"""What pip installs of others: pinned with hashes, at versions that were tested, under licences that go with ours."""

import re
import tomllib
from functools import cache
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.unit.test_extras import distributions
from tests.unit.test_imports import ROOT

REQUIREMENTS = ROOT / "deploy/requirements"
PARTS = ("producer", "streams", "console", "local")
LINUX = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "extra": ""}

ALLOWED = {
    "0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MIT-0", "MPL-2.0", "PSF-2.0",
    "Zlib",
}  # fmt: skip
"""Of what is installed beside ours, which is Apache-2.0. MPL-2.0 (certifi) asks for the source of what is changed."""
SAID_OTHERWISE = {  # what a distribution calls its licence, where it has no SPDX expression
    "Apache 2": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "BSD-derived (Repoze)": "BSD",
    "MIT License": "MIT",
}


@cache
def locked(part: str) -> dict[str, tuple[Requirement, int]]:
    """Name -> its line, and how many hashes it has."""
    found: dict[str, tuple[Requirement, int]] = {}
    for entry in re.split(r"\n(?=\S)", (REQUIREMENTS / f"{part}.txt").read_text()):
        if not entry.startswith("#"):
            line, *hashes = re.split(r"\s*\\\n\s*", entry.strip())
            assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one) for one in hashes), line
            requirement = Requirement(line)
            found[canonicalize_name(requirement.name)] = (requirement, len(hashes))
    return found


@cache
def pins() -> dict[str, str]:
    """The versions of constraints.txt."""
    lines = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line[0] != "#"]
    return {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in lines}


@pytest.mark.parametrize("part", [*PARTS, "build"])
def test_each_dependency_has_one_version_that_was_tested_and_hashes(part: str) -> None:
    for name, (requirement, hashes) in locked(part).items():
        assert hashes, name
        version = re.fullmatch(r"==([^*,]+)", str(requirement.specifier))
        assert version, requirement
        assert pins().get(name, version[1]) == version[1], "run: make lock"


@pytest.mark.parametrize("part", PARTS)
def test_all_that_a_part_installs_is_in_its_file(part: str) -> None:
    def wanted(file: str) -> set[str]:
        return {name for name, (one, _) in locked(file).items() if one.marker is None or one.marker.evaluate(LINUX)}

    assert wanted(part) == distributions(f"ayaflow[{part}]") - {"ayaflow"}, "run: make lock"


def test_what_pyproject_asks_for_is_met() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for part, lines in project["project"]["optional-dependencies"].items():
        if part in PARTS:
            for line in [*project["project"]["dependencies"], *lines]:
                asked = Requirement(line)
                if asked.name != "ayaflow":
                    (found, _) = locked(part)[canonicalize_name(asked.name)]
                    assert asked.specifier.contains(str(found.specifier).removeprefix("==")), line
    for line in project["build-system"]["requires"]:
        asked = Requirement(line)
        assert asked.specifier.contains(str(locked("build")[asked.name][0].specifier).removeprefix("=="))


def licences(name: str) -> set[str]:
    """All that must be kept; of `A OR B` what goes with ours."""
    about = metadata.metadata(name)
    if "License-Expression" in about:
        expression = about["License-Expression"]
        alternatives = [{one.strip("() ") for one in each.split(" AND ")} for each in expression.split(" OR ")]
        return next((one for one in alternatives if one <= ALLOWED), alternatives[0])
    said = [one.rpartition(" :: ")[2] for one in about.get_all("Classifier") or () if one.startswith("License ::")]
    said += [about["License"].strip()] if "License" in about else []
    known = {SAID_OTHERWISE.get(one, one) for one in said} & ALLOWED
    return known or set(said) or {"none"}


def test_every_dependency_is_under_a_licence_that_goes_with_ours() -> None:
    found = {name: licences(name) for name in distributions("ayaflow[local]")}
    assert len(found) > 60
    assert {name: names - ALLOWED for name, names in found.items() if names - ALLOWED} == {}
