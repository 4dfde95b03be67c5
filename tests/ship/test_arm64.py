"""Our C on arm64, by emulation: it is cross-compiled, and its unit tests run under an arm64 Python of Debian's.

Images for arm64 are not built here: apt and pip under emulation take hours. What of them is ours is Python, this C,
and the objects, which are for the machine of BPF and hence the same everywhere.
"""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from producer.kernel.load import objects
from tests.fix_local import REPOSITORY

pytestmark = [pytest.mark.ship, pytest.mark.timeout(900)]

ROOT = REPOSITORY / ".ship/arm64"
"""Of Debian's packages for arm64, unpacked; and Python's, by pip: deploy/local/setup.sh ship makes both."""
HEADERS = Path("/usr/aarch64-linux-gnu/include")
FOR_ARM64 = f"""#!/bin/sh
for one; do
    shift
    case $one in -I/usr/include/*) one=-I{HEADERS} ;; esac
    set -- "$@" "$one"
done
exec clang "$@"
"""
QEMU, GCC = "qemu-aarch64-static", "aarch64-linux-gnu-gcc"
TESTS = (
    "tests/unit/schemas/avro/test_packet_encoder.py",
    "tests/unit/schemas/avro/test_flow_decoder.py",
    "tests/unit/producer/capture/test_columns.py",
    "tests/unit/producer/names/test_dns.py",
    "tests/unit/producer/names/test_hello.py",
    "tests/unit/ayaflow/consume/test_identities.py",
)
SLOW = "tests/unit/producer/names/test_dns.py::test_more_copies_than_the_places_hold_are_all_read"
FEW = """
from hypothesis import HealthCheck, settings
settings.register_profile("few", max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("few")
"""
"""An emulated second is not one."""
SOURCES = ("ayaflow", "bpf", "cli", "common", "console", "deploy", "producer", "schemas", "streams", "tests")
LEFT_OUT = shutil.ignore_patterns("*.so", "*.o", "jars", "registry", ".work", "__pycache__")


@pytest.fixture(scope="module")
def checkout(tools: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our sources with the C parts compiled for arm64, and for no other machine."""
    assert (ROOT / ".complete").exists(), "run deploy/local/setup.sh ship"
    folder = tmp_path_factory.mktemp("arm64")
    for name in SOURCES:
        shutil.copytree(REPOSITORY / name, folder / name, ignore=LEFT_OUT)
    shutil.copy(REPOSITORY / "pyproject.toml", folder)
    (folder / "few.py").write_text(FEW)
    for part in tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]:
        target = folder / f"{part['name'].replace('.', '/')}.abi3.so"
        sources = [folder / source for source in part["sources"]]
        subprocess.run(
            [GCC, "-shared", "-fPIC", "-Wall", "-Werror", *part["extra-compile-args"], *sources, "-o", target],
            check=True,
        )
    return folder


def run(checkout: Path, *words: str) -> str:
    """What an arm64 Python says."""
    done = subprocess.run(
        [QEMU, "-L", ROOT, ROOT / "usr/bin/python3.11", *words],
        cwd=checkout,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONHOME": str(ROOT / "usr"),
            "PYTHONPATH": f"{ROOT / 'site'}:{checkout}",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_compiled_part_is_loaded_on_arm64(checkout: Path) -> None:
    said = run(
        checkout,
        "-c",
        "import ctypes, pathlib, platform; print(platform.machine());"
        "[print(ctypes.CDLL(str(path.resolve())), path) for path in pathlib.Path('.').rglob('*.abi3.so')]",
    )
    assert said.startswith("aarch64\n")
    assert said.count(".abi3.so") // 2 == len(list(checkout.rglob("*.abi3.so"))) == 6


def test_what_our_c_does_on_arm64_is_what_its_tests_say(checkout: Path) -> None:
    said = run(
        checkout,
        "-m",
        "pytest",
        "-q",
        "--noconftest",
        "-p",
        "few",
        "-p",
        "no:cacheprovider",
        "--deselect",
        SLOW,
        *TESTS,
    )
    last = said.splitlines()[-1]
    print(f"\narm64: {last}")
    assert int(re.search(r"(\d+) passed", last)[1]) > 50  # type: ignore[index]
    assert "skipped" not in last


def test_the_objects_are_the_same_whatever_machine_compiles_them(tools: None, tmp_path: Path) -> None:
    """clang finds the headers of arm64 where it looks for this machine's."""
    assert HEADERS.is_dir(), "run deploy/local/setup.sh ship"
    compiler = tmp_path / "clang"
    compiler.write_text(FOR_ARM64)
    compiler.chmod(0o755)
    here, there = objects.build(tmp_path / "here"), objects.build(tmp_path / "there", str(compiler))
    assert [path.read_bytes() for path in here] == [path.read_bytes() for path in there]
