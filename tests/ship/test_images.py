"""The images, built from nothing: what is in them, how large they are, whose they run as, and that they run."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from producer.kernel.load.objects import NAMES
from tests.fix_local import REPOSITORY
from tests.ship.conftest import VERSION, Images
from tests.ship.podman import OUTSIDE

pytestmark = [pytest.mark.ship, pytest.mark.timeout(1800)]

PARTS = ("producer", "producer-object", "streams", "console", "ayaflow")
MOST_MEGABYTES = {"producer": 400, "producer-object": 200, "streams": 350, "console": 250}
COMMAND = {
    "producer": "producer",
    "producer-object": "producer",
    "streams": "streams",
    "console": "console",
    "ayaflow": "up",
}
USER = {"producer": "", "producer-object": "", "streams": "10001:10001", "console": "10001:10001", "ayaflow": ""}
PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_17_aarch64", "manylinux_2_28_aarch64", "manylinux_2_34_aarch64")


def test_images_are_as_small_as_is_said(images: Images) -> None:
    sizes = {part: images.podman.inspect(images.name(part))["Size"] / 1e6 for part in PARTS}
    print("\n" + ", ".join(f"{part} {size:.0f} MB" for part, size in sizes.items()))
    assert {part for part, most in MOST_MEGABYTES.items() if sizes[part] > most} == set(), sizes


@pytest.mark.parametrize("part", PARTS)
def test_an_image_says_what_it_is_and_whether_it_is_well(images: Images, part: str) -> None:
    said = images.podman.inspect(images.name(part))
    config = said["Config"]
    assert config["Entrypoint"] == ["ayaflow"]
    assert config["Cmd"] == [COMMAND[part]]
    assert config.get("User", "") == USER[part]
    assert config["Labels"]["org.opencontainers.image.version"] == VERSION
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert config["Labels"]["org.opencontainers.image.title"].startswith("ayaflow")
    assert said["HealthCheck" if "HealthCheck" in said else "Healthcheck"]["Test"][0] == "CMD"


@pytest.mark.parametrize("part", PARTS)
def test_an_image_lists_what_is_in_it(images: Images, part: str) -> None:
    with images.podman.mounted(images.name(part)) as root:
        file = root / "usr/lib/ayaflow/sbom.spdx.json"
        named = {one["name"] for one in json.loads(file.read_text())["packages"]}
        assert validate_full_spdx_document(parse_file(str(file))) == []
        status = (root / "var/lib/dpkg/status").read_text()
        debian = set(re.findall(r"^Package: (\S+)\nStatus: install ok installed$", status, re.MULTILINE))
        python = {
            re.sub(r"[-_.]+", "-", re.search(r"^Name: (.*)$", path.read_text(), re.MULTILINE)[1]).lower()  # type: ignore[index]
            for path in root.glob("opt/ayaflow/lib/python3*/site-packages/*.dist-info/METADATA")
        }
        jars = len(list((root / "usr/share/ayaflow/jars").glob("*.jar")))
    assert named >= debian | python
    assert len(debian) > 50
    assert {"ayaflow", "numpy"} <= python
    assert jars > 30 if part == "ayaflow" else jars == 0


@pytest.mark.parametrize("part", PARTS)
def test_an_image_has_its_compiled_parts_and_no_compiler(images: Images, part: str) -> None:
    with images.podman.mounted(images.name(part)) as root:
        place = next(root.glob("opt/ayaflow/lib/python3*/site-packages"))
        sources = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]
        for one in sources:
            assert (place / f"{one['name'].replace('.', '/')}.abi3.so").exists()
        objects = {path.name for path in place.glob("bpf/objects/*")}
        assert objects == (set() if part in {"streams", "console"} else set(NAMES))
        assert not [path for name in ("gcc", "clang*") for path in (root / "usr/bin").glob(name)]
        assert bool(list(root.glob("usr/lib/*/libLLVM*"))) == (part in {"producer", "ayaflow"})
        assert not (root / "opt/ayaflow/bin/pip").exists()


@pytest.mark.parametrize("part", PARTS)
def test_an_image_runs_read_only_without_a_network_or_a_capability(images: Images, part: str) -> None:
    for words in (["--help"], [COMMAND[part], "--help"]):
        said = images.podman.podman(
            *("run", "--rm", "--read-only", "--network=none", "--cap-drop=all", "--security-opt=no-new-privileges"),
            images.name(part),
            *words,
        )
        assert "Usage: ayaflow" in said


@pytest.mark.parametrize("part", ["producer", "producer-object", "streams", "console"])
def test_every_import_of_a_part_is_there(images: Images, part: str) -> None:
    """What was taken out of the libraries is nothing that they import."""
    modules = {
        "producer": "producer.component, producer.parts, producer.replay.program, pyroute2, bcc, numpy.linalg",
        "producer-object": "producer.component, producer.parts, producer.replay.program, pyroute2, numpy.linalg",
        "streams": "streams.component, streams.app, confluent_kafka.schema_registry, pyarrow.compute, aiokafka, "
        "clickhouse_connect",
        "console": "console.app, console.audit.run, confluent_kafka.schema_registry, rich.live, rich.table, cli.top, "
        "cli.doctor, pyarrow.compute, clickhouse_connect, uvicorn",
    }[part]
    images.podman.podman(
        *("run", "--rm", "--network=none", "--entrypoint=/opt/ayaflow/bin/python", images.name(part)),
        *("-c", f"import {modules}"),
    )


@pytest.mark.parametrize("part", PARTS)
def test_numpy_has_what_it_needs_of_linear_algebra_and_refuses_the_rest(images: Images, part: str) -> None:
    def run(code: str) -> str:
        words = ("run", "--rm", "--network=none", "--entrypoint=/opt/ayaflow/bin/python", images.name(part), "-c", code)
        done = images.podman.run("podman", *words, check=False)
        return done.stdout + done.stderr

    assert run("import numpy as n; x = n.arange(4.0); print(x.dot(x), x[::-1].dot(x[::-1]))").split() == ["14.0"] * 2
    assert "numpy has no linear algebra in this image" in run("import numpy; numpy.linalg.inv(numpy.eye(2))")


def test_the_wheel_is_the_same_when_it_is_made_again(tmp_path: Path) -> None:
    made = []
    for number in range(2):
        folder = tmp_path / str(number)
        subprocess.run(["git", "clone", "--quiet", "--depth=1", f"file://{REPOSITORY}", folder / "sources"], check=True)
        subprocess.run(
            [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, folder / "sources"],
            env={"PATH": "/usr/bin:/bin", "SOURCE_DATE_EPOCH": "1700000000", "PIP_NO_INDEX": "1"}
            | {"PIP_FIND_LINKS": str(REPOSITORY / ".wheels")},
            check=True,
        )
        made.append(next(folder.glob("*.whl")).read_bytes())
    assert made[0] == made[1]


def test_all_that_the_images_install_from_pypi_is_there_for_arm64(tmp_path: Path) -> None:
    """Images for arm64 are not built here: emulated, that takes hours. Debian has its packages for both."""
    # it has no wheel for arm64, and is compiled where the image is built
    compiled = "faust-streaming=="
    of_all = re.split(r"\n(?=\S)", (REPOSITORY / "deploy/requirements/local.txt").read_text())
    locked = [one for one in of_all if not one.startswith(compiled)]
    assert len(locked) == len(of_all) - 1
    (tmp_path / "locked.txt").write_text("\n".join(locked))
    done = subprocess.run(
        [
            *OUTSIDE,
            *(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--only-binary=:all:", "--no-deps"),
            *("--python-version=3.11", "--implementation=cp", "--target", tmp_path / "none"),
            *("--require-hashes", "-r", tmp_path / "locked.txt"),
            *(f"--platform={platform}" for platform in PLATFORMS),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
