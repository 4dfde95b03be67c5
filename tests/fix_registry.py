"""A schema registry that is not ours (Apicurio Registry, with Confluent's API), as a process."""

import contextlib
import os
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest

from tests.fix_local import REPOSITORY, free_port
from tests.waiting import HANG_SECONDS, until

RUNNER = REPOSITORY / "tests" / "integration" / "registry"


@contextlib.contextmanager
def running_registry() -> Iterator[str]:
    """Its URL, once it answers."""
    runners = list(RUNNER.glob("*-runner.jar"))
    if not runners:
        missing = f"no Apicurio Registry in {RUNNER}: run make setup-test"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    port = free_port()
    process = subprocess.Popen(
        ["java", "-Xmx256m", f"-Dquarkus.http.port={port}", "-Dquarkus.http.host=127.0.0.1", "-jar", str(runners[0])],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
    try:

        def answers() -> bool:
            assert process.poll() is None, "the registry ended"
            try:
                urllib.request.urlopen(f"{url}/subjects", timeout=HANG_SECONDS).close()
            except OSError:
                return False
            return True

        until(answers)
        yield url
    finally:
        process.terminate()
        process.wait(HANG_SECONDS)
