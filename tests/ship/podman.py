"""buildah and podman with images, containers and volumes of a test's own, all of which are gone afterwards."""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fix_local import REPOSITORY
from tests.waiting import until

# Cgroups: what a container may use is not looked at here, and hybrid hierarchies are refused by crun. Limits: root here
# may lack CAP_SYS_RESOURCE, which the default ones need.
_CONFIGURATION = """[containers]
cgroups = "disabled"
default_ulimits = ["nofile=4096:4096", "nproc=1000:1000"]
pids_limit = 0
log_driver = "k8s-file"
init = false

[engine]
runtime = "crun"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{place}/tmp"
volume_path = "{place}/volumes"

[network]
network_config_dir = "{place}/networks"
"""
_STORAGE = """[storage]
driver = "overlay"
runroot = "{place}/run"
graphroot = "{place}/storage"
"""


CGROUPS = "/sys/fs/cgroup"
APART = "run it by tests/ship/run.sh, or make test-ship"
_OUTSIDE = f"/proc/{os.getpid()}/fd/9"
OUTSIDE = ("nsenter", f"--net={_OUTSIDE}")
"""Put before a command that asks a registry: tests run in a network namespace that reaches none."""


def is_apart() -> bool:
    """Whether what is mounted and configured here stays here, and there is a way out: tests/ship/run.sh makes it so."""
    try:
        return Path(_OUTSIDE).stat().st_ino != Path("/proc/self/ns/net").stat().st_ino
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Podman:
    """Where images and containers are kept."""

    place: Path

    def environment(self, **variables: str) -> dict[str, str]:
        """This process's, with the place of images and containers."""
        return {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(self.place / "storage.conf"),
            "CONTAINERS_CONF": str(self.place / "containers.conf"),
            "TMPDIR": str(self.place / "tmp"),
            "DISABLE_HC_SYSTEMD": "true",  # its timers, which run health checks elsewhere
            **variables,
        }

    def run(
        self, *words: object, check: bool = True, seconds: float = 300, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command; when it must end well and does not, the test fails with what it said."""
        done = subprocess.run(
            [str(word) for word in words],
            cwd=REPOSITORY,
            env=self.environment(**variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
        assert done.returncode == 0 or not check, f"{' '.join(map(str, words))}:\n{done.stdout}{done.stderr}"
        return done

    def podman(self, *words: object, **options: Any) -> str:
        """What a podman command prints."""
        return self.run("podman", *words, **options).stdout

    def build(self, *targets: str) -> dict[str, str]:
        """Build images by deploy/images/build.sh -> name by target; all unless told."""
        said = self.run(*OUTSIDE, "deploy/images/build.sh", *targets, seconds=1800).stdout
        names = [line.split("\t")[0] for line in said.splitlines()]
        return {name.rpartition("/")[2].partition(":")[0].removeprefix("ayaflow-"): name for name in names}

    def inspect(self, image: str) -> dict[str, Any]:
        """What an image says of itself."""
        found: list[dict[str, Any]] = json.loads(self.podman("image", "inspect", image))
        return found[0]

    @contextlib.contextmanager
    def mounted(self, image: str) -> Iterator[Path]:
        """An image's files."""
        path = Path(self.podman("image", "mount", image).strip())
        try:
            yield path
        finally:
            self.podman("image", "unmount", image)

    @contextlib.contextmanager
    def health_checked(self) -> Iterator[None]:
        """Runs the health checks of all containers until they are well, which podman leaves to systemd's timers."""
        ended = threading.Event()

        def check() -> None:
            while not ended.wait(2):
                for line in self.podman("ps", "--format={{.Names}} {{.Status}}", check=False).splitlines():
                    if "(healthy)" not in line:
                        self.podman("healthcheck", "run", line.split()[0], check=False)

        thread = threading.Thread(target=check)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    @contextlib.contextmanager
    def socket(self) -> Iterator[str]:
        """Podman's service, which Docker's tools can talk to -> DOCKER_HOST."""
        path = self.place / "podman.sock"
        with (self.place / "service.log").open("w") as log:
            service = subprocess.Popen(
                ["podman", "system", "service", "--time=0", f"unix://{path}"],
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            until(path.exists, (self.place / "service.log").read_text)
            yield f"unix://{path}"
        finally:
            service.terminate()
            service.wait()
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def opened() -> Iterator[Podman]:
    """A place of its own in the checkout: /tmp may be in memory. With SHIP_KEEP=1 it stays, for the next run."""
    assert is_apart(), APART
    kept = os.environ.get("SHIP_KEEP") == "1"
    (REPOSITORY / ".ship/kept").mkdir(parents=True, exist_ok=True)
    place = REPOSITORY / ".ship/kept" if kept else Path(tempfile.mkdtemp(prefix="podman-", dir=REPOSITORY / ".ship"))
    made = Podman(place)
    subprocess.run(["mount", "-t", "cgroup2", "none", CGROUPS], check=True)  # crun looks for it, and uses none
    try:
        for name in ("tmp", "volumes", "networks"):
            (place / name).mkdir(exist_ok=True)
        (place / "containers.conf").write_text(_CONFIGURATION.format(place=place))
        (place / "storage.conf").write_text(_STORAGE.format(place=place))
        yield made
    finally:
        made.run("podman", "rm", "--all", "--force", "--time=5", check=False)
        made.run("buildah", "rm", "--all", check=False)
        made.run("podman", "image", "unmount", "--all", "--force", check=False)
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            if (where := line.split()[1]).startswith(str(place)):
                subprocess.run(["umount", "--lazy", where], check=False)
        subprocess.run(["umount", "--lazy", CGROUPS], check=True)
        if not kept:
            shutil.rmtree(place, ignore_errors=True)
