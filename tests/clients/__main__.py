"""Installs each language's client, runs its program against an embedded ClickHouse, prints a table.

    python -m tests.clients [java go node rust python]

What is installed goes into tests/clients/.work, which git ignores. Exit code 1 when a step failed or a tool is missing.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

from tests.fix_local import running_clickhouse, temporary_directory

HERE = Path(__file__).parent
WORK = HERE / ".work"
USER, PASSWORD = "ayaflow", "of-the-tests"  # who may write
BUILD_SECONDS, RUN_SECONDS = 900, 300
STEPS = (
    "connect",
    "metadata",
    "query",
    "parameters",
    "insert",
    "500,000 rows",
    "error",
    "mid-stream",
    "cancel",
    "KILL",
)


@dataclass(frozen=True, slots=True)
class Client:
    """A program of a language, and what makes it ready."""

    name: str  # of the client, as in the table
    tools: tuple[str, ...]  # that must be there
    folder: Path  # to work in
    build: tuple[str, ...]
    run: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


JARS, TARGET = WORK / "java", WORK / "rust"
CLIENTS = {
    "java": Client(
        "clickhouse-jdbc",
        ("java", "mvn"),
        HERE / "java",
        ("mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={JARS}"),
        ("java", "-cp", f"{JARS}/*", "Client.java"),
    ),
    "go": Client(
        "clickhouse-go",
        ("go",),
        HERE / "go",
        ("go", "build", "-o", str(WORK / "go-client"), "."),
        (str(WORK / "go-client"),),
    ),
    "node": Client(
        "@clickhouse/client",
        ("node", "npm"),
        WORK / "node",
        ("npm", "install", "--silent", "--no-audit", "--no-fund"),
        ("node", "client.js"),
    ),
    "rust": Client(
        "clickhouse-rs",
        ("cargo",),
        HERE / "rust",
        ("cargo", "build", "--quiet", "--locked"),
        (str(TARGET / "debug/test-clients"),),
        {"CARGO_TARGET_DIR": str(TARGET)},
    ),
    "python": Client(
        "clickhouse-connect", (), HERE.parents[1], (), (sys.executable, "-m", "tests.clients.python.client")
    ),
}


def results(client: Client, url: str) -> dict[str, tuple[str, str]]:
    """Step -> ok or FAIL, what it saw."""
    missing = [tool for tool in client.tools if not shutil.which(tool)]
    if missing:
        return dict.fromkeys(STEPS, ("FAIL", f"not run: {', '.join(missing)} is not on this machine"))
    environment = {**os.environ, **client.environment}
    query = urlencode({"query": "CREATE DATABASE IF NOT EXISTS ayaflow", "user": USER, "password": PASSWORD})
    urlopen(f"{url}/?{query}", data=b"", timeout=60).close()
    for command, seconds in ((client.build, BUILD_SECONDS), ((*client.run, url, USER, PASSWORD), RUN_SECONDS)):
        if not command:
            continue
        try:
            done = subprocess.run(
                command,
                cwd=client.folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return dict.fromkeys(STEPS, ("FAIL", f"{command[0]} did not end within {seconds} s"))
        found = {
            step: (state, seen)
            for line in done.stdout.splitlines()
            if line.count("\t") >= 2
            for step, state, seen in [line.split("\t", 2)]
        }
        if done.returncode and not found:
            return dict.fromkeys(STEPS, ("FAIL", (done.stderr or done.stdout).strip()[-2000:]))
    return {
        step: found.get(step, ("FAIL", f"the program ended before it: {done.stderr.strip()[-500:]}")) for step in STEPS
    }


def main(names: list[str]) -> int:
    """Run them, print the table -> exit code."""
    WORK.mkdir(exist_ok=True)
    shutil.copytree(HERE / "node", WORK / "node", dirs_exist_ok=True)
    table = {}
    settings = {"clickhouse__username": USER, "clickhouse__password": PASSWORD}
    with temporary_directory() as directory, running_clickhouse(directory, **settings) as (url, _):
        for name in names or CLIENTS:
            table[CLIENTS[name].name] = results(CLIENTS[name], url)
    width = max(map(len, table))
    print("step".ljust(14), *(name.ljust(width) for name in table))
    for step in STEPS:
        print(step.ljust(14), *(table[name][step][0].ljust(width) for name in table))
    failed = [
        f"{name}: {step}: {table[name][step][1]}" for name in table for step in STEPS if table[name][step][0] != "ok"
    ]
    print("", *failed, f"{len(table) * len(STEPS) - len(failed)} passed, {len(failed)} failed", sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
