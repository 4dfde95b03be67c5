"""A virtual environment for each extra of the package, as a user's pip makes it; offline, from the wheels in .wheels.

`python -m tests.ship.extras` prints how large they are (`make sizes`).
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from tests.fix_local import REPOSITORY

WHEELS = REPOSITORY / ".wheels"
EXTRAS = ("producer", "streams", "console", "consume", "local")
_SOURCES = ("ayaflow", "bpf", "cli", "common", "console", "deploy", "producer", "schemas", "streams")
_MADE = ("__pycache__", "*.so", "*.o", "jars", "node_modules")
_FILES = ("pyproject.toml", "setup.py", "README.md", "LICENSE")


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment beside Debian's packages, which bring bcc."""

    path: Path

    @property
    def ayaflow(self) -> Path:
        """The command."""
        return self.path / "bin/ayaflow"

    def distributions(self) -> set[str]:
        """Names of what was installed, in lower case."""
        places = [str(place) for place in self.path.glob("lib/python*/site-packages")]
        return {found.name.lower().replace("_", "-") for found in metadata.distributions(path=places)}

    def megabytes(self) -> float:
        """What it takes on disk."""
        return sum(file.lstat().st_size for file in self.path.rglob("*") if not file.is_symlink()) / 1e6

    def run(self, *words: str, variables: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run the command, away from the checkout."""
        return subprocess.run(
            [self.ayaflow, *words],
            cwd=self.path,
            env={**os.environ, **(variables or {})},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@contextlib.contextmanager
def workshop() -> Iterator[Path]:
    """A directory for environments; in the checkout, since a /tmp in memory may be too small."""
    path = Path(tempfile.mkdtemp(prefix=".extras-", dir=REPOSITORY))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def build(directory: Path) -> Path:
    """Our wheel, made of a copy of the sources."""
    copy = directory / "sources"
    for name in _SOURCES:
        shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns(*_MADE))
    for name in _FILES:
        shutil.copy(REPOSITORY / name, copy / name)
    _pip("wheel", "--no-deps", "--wheel-dir", str(directory), str(copy))
    return next(directory.glob("ayaflow-*.whl"))


def install(wheel: Path, extra: str) -> Environment:
    """An environment with one extra (or several: `producer,console`) and nothing else."""
    environment = Environment(wheel.parent / extra)
    subprocess.run(
        ["/usr/bin/python3", "-m", "venv", "--system-site-packages", "--without-pip", environment.path], check=True
    )
    python = str(environment.path / "bin/python")
    _pip("install", "--no-compile", f"ayaflow[{extra}] @ {wheel.as_uri()}", python=python)
    return environment


def _pip(*words: str, python: str = sys.executable) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, *words, "--quiet", "--no-index", "--find-links", str(WHEELS)],
        env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(WHEELS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"pip {' '.join(words)}: {done.stdout}{done.stderr}"


def main() -> None:
    """A line an extra."""
    print("| extra | MB | distributions |\n|---|---|---|")
    with workshop() as directory:
        wheel = build(directory)
        for extra in EXTRAS:
            made = install(wheel, extra)
            print(f"| `{extra}` | {made.megabytes():.0f} | {len(made.distributions())} |", flush=True)


if __name__ == "__main__":
    main()
