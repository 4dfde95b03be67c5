"""The images, built once for all tests of a run."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.lacking import cannot_run
from tests.ship import podman
from tests.ship.podman import Podman

VERSION = "0.1.0"
TOOLS = ("buildah", "podman", "crun", "mmdebstrap", "systemd-nspawn")


@dataclass(frozen=True, slots=True)
class Images:
    """Built images, where they are."""

    podman: Podman
    names: dict[str, str]  # by part; `ayaflow`: that of all

    def name(self, part: str) -> str:
        """The image of a part."""
        return self.names[part]


@pytest.fixture(scope="session")
def tools() -> None:
    """Skips with a sentence where images cannot be built; under CI=true that is a failure."""
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    reason = f"{', '.join(missing)} missing; run deploy/local/setup.sh ship" if missing else ""
    if reason := reason or ("needs root" if os.geteuid() else ""):
        cannot_run(reason)


@pytest.fixture(scope="session")
def images(tools: None) -> Iterator[Images]:
    """All images of docker-bake.json."""
    with podman.opened() as place:
        yield Images(place, place.build())
