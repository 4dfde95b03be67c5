"""Each component in a virtual environment that has its extra alone, from our wheel, as on the machines of a fleet."""

import contextlib
import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from cli.extras import EXTRAS as NEEDED
from cli.main import cli
from tests.fix_local import REPOSITORY, WRITER_SETTINGS, environment, free_port
from tests.kernel import veth
from tests.lacking import cannot_run
from tests.ship import extras
from tests.ship.extras import Environment
from tests.waiting import HANG_SECONDS, until

pytestmark = [pytest.mark.timeout(600), pytest.mark.wide]  # tests/unit/test_extras.py looks at what is imported

TEST_TOOLS = {"pytest", "mypy", "hypothesis", "playwright", "schemathesis", "ruff", "scapy"}
ABSENT = {  # what a machine with this extra must not carry
    "producer": {
        *("aiohttp", "chdb", "clickhouse-connect", "fastapi", "faust-streaming", "lark", "pandas", "plotly"),
        *("pyarrow", "rich", "uvicorn", *TEST_TOOLS),
    },
    "streams": {"chdb", "fastapi", "lark", "pandas", "plotly", "pyroute2", "rich", "uvicorn", *TEST_TOOLS},
    "console": {"aiohttp", "chdb", "faust-streaming", "pandas", "pyroute2", *TEST_TOOLS},
    "consume": {
        *("aiohttp", "chdb", "clickhouse-connect", "fastapi", "faust-streaming", "lark", "pandas", "plotly"),
        *("pyroute2", "rich", "uvicorn", *TEST_TOOLS),
    },
    "local": TEST_TOOLS,
}


class Environments:
    """Made when they are first asked for."""

    def __init__(self, directory: Path) -> None:
        self._wheel = extras.build(directory)
        self._made: dict[str, Environment] = {}

    def __call__(self, extra: str) -> Environment:
        if extra not in self._made:
            self._made[extra] = extras.install(self._wheel, extra)
        return self._made[extra]


@pytest.fixture(scope="module")
def having() -> Iterator[Environments]:
    """An environment by its extra."""
    if not extras.WHEELS.is_dir():
        cannot_run(f"{extras.WHEELS} is missing; run make setup-test")
    with extras.workshop() as directory:
        yield Environments(directory)


@pytest.mark.parametrize("extra", ["producer", "streams", "console", "consume", "local"])
def test_an_extra_brings_what_its_part_needs_and_not_what_others_do(
    having: Environments, extra: str, capsys: pytest.CaptureFixture[str]
) -> None:
    installed = having(extra)
    with capsys.disabled():
        print(f"\nayaflow[{extra}]: {installed.megabytes():.0f} MB")
    assert not installed.distributions() & ABSENT[extra]
    assert installed.distributions() >= {"ayaflow", "numpy", "confluent-kafka"}


@pytest.mark.parametrize("extra", ["producer", "streams", "console", "consume", "local"])
def test_a_schema_registry_needs_no_extra(having: Environments, extra: str) -> None:
    ask = (
        "from schemas.avro.registry import open_registry; from schemas.topics import TopicNames;"
        "open_registry('http://127.0.0.1:1', TopicNames.of('')).close()"
    )
    done = subprocess.run(
        [having(extra).path / "bin/python", "-c", ask], cwd="/", capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_library_needs_its_extra_alone_and_has_its_compiled_parts(having: Environments) -> None:
    program = (
        "from ayaflow.consume import Flows, Packets, ServiceUnavailable; from ayaflow.consume import identities;"
        "from schemas.avro import reader; assert identities._enter and reader._read_rows;"
        "\nfor kind in (Flows, Packets):"
        "\n    with kind('127.0.0.1:1', timeout_seconds=1) as found:"
        "\n        try: next(found)"
        "\n        except ServiceUnavailable as error: print(error)"
    )
    done = subprocess.run(
        [having("consume").path / "bin/python", "-c", program], cwd="/", capture_output=True, text=True, check=False
    )
    assert (done.stdout.count("127.0.0.1:1 does not answer"), done.stderr) == (2, "")


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_every_command_can_be_asked_for_help_with_any_extra(having: Environments, command: str) -> None:
    done = having("producer").run(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"ayaflow {command}" in done.stdout


@pytest.mark.parametrize(
    "words",
    [["streams"], ["console"], ["clickhouse"], ["flows"], ["top"], ["query", "SELECT 1"], ["audit"], ["doctor"]],
    ids=lambda words: words[0],
)
def test_a_command_whose_extra_is_missing_says_which_to_install(having: Environments, words: list[str]) -> None:
    done = having("producer").run(*words)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert f"`ayaflow {words[0]}` needs " in done.stderr
    assert f"pip install 'ayaflow[{NEEDED[words[0]]}]'" in done.stderr


@contextlib.contextmanager
def running(environment_of: Environment, command: str, output: Path, **settings: object) -> Iterator[None]:
    """One component, stopped at the end; what it said is in `output`."""
    with output.open("w") as file:
        process = subprocess.Popen(
            [environment_of.ayaflow, command],
            cwd=output.parent,
            env=environment(**settings),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        yield
        assert process.poll() is None, output.read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(HANG_SECONDS)
        finally:
            process.kill()
            process.wait()


def health(port: int) -> dict[str, object]:
    """What the console says of all stages."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=HANG_SECONDS) as answer:
            found = json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            found = json.load(error)
    except OSError as error:
        found = {"ok": False, "error": str(error)}
    assert isinstance(found, dict)
    return found


@pytest.mark.root
@pytest.mark.kafka
@pytest.mark.clickhouse
def test_producer_streams_and_console_work_together_each_with_its_extra_alone(
    having: Environments, kafka_broker: str, clickhouse_server: str, bpffs: Path, tmp_path: Path
) -> None:
    ports = {name: free_port() for name in ("producer", "streams", "console")}
    frame = bytes(Ether(dst="02:00:00:00:00:02") / IP(src="10.1.2.3", dst="10.3.2.1") / UDP(sport=4321, dport=53))
    with veth.pair() as (a, _), contextlib.ExitStack() as stack:
        settings: dict[str, object] = {
            "node": f"extras-{os.getpid()}",
            "data_dir": tmp_path,
            "capture_interfaces": a,
            "capture_bpffs": bpffs,
            "clickhouse_url": clickhouse_server,
            **WRITER_SETTINGS,
            "kafka_bootstrap_servers": kafka_broker,
            "streams_window_seconds": 1,
            "streams_app_id": f"extras-{os.getpid()}",
            "producer_metrics_listen": f"127.0.0.1:{ports['producer']}",
            "streams_metrics_listen": f"127.0.0.1:{ports['streams']}",
            "console_listen": f"127.0.0.1:{ports['console']}",
        }
        outputs = {name: tmp_path / f"{name}.out" for name in ports}
        for name in ports:
            stack.enter_context(running(having(name), name, outputs[name], **settings))

        def said() -> str:
            return "\n".join(f"--- {name}\n{output.read_text()}" for name, output in outputs.items())

        until(lambda: health(ports["console"])["ok"], lambda: f"{health(ports['console'])}\n{said()}")
        veth.send(a, *[frame] * 7)
        # the broker may have what other tests sent
        chosen = f"dst_port = 53 and node = {settings['node']}"
        question = ("flows", chosen, "--format", "json", "--since", "1h")
        names = {key: value for key, value in environment(**settings).items() if key.startswith("AYAFLOW_")}

        def packets() -> int:
            found = having("console").run(*question, variables=names).stdout
            return sum(json.loads(line)["packets"] for line in found.splitlines())

        until(lambda: packets() == 7, said)


@pytest.mark.root
@pytest.mark.kafka
@pytest.mark.clickhouse
def test_all_of_it_runs_on_one_machine_with_the_local_extra(
    having: Environments, root_and_bcc: None, bpffs: Path, tmp_path: Path
) -> None:
    ports = [free_port() for _ in range(6)]
    settings = environment(
        node=f"extras-{os.getpid()}",
        data_dir=tmp_path / "data",
        capture_interfaces="lo",
        capture_bpffs=bpffs,
        clickhouse_url=f"http://127.0.0.1:{ports[0]}",
        kafka_bootstrap_servers=f"127.0.0.1:{ports[1]}",
        local_kafka_controller_port=ports[2],
        local_kafka_heap_mb=256,
        local_kafka_jars_dir=REPOSITORY / "deploy/local/jars",
        producer_metrics_listen=f"127.0.0.1:{ports[3]}",
        streams_metrics_listen=f"127.0.0.1:{ports[4]}",
        console_listen=f"127.0.0.1:{ports[5]}",
    )
    output = tmp_path / "up.err"
    with output.open("w") as errors:
        process = subprocess.Popen(
            [having("local").ayaflow, "up"],
            cwd=tmp_path,
            env=settings,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready http://"), output.read_text()
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=HANG_SECONDS)
        finally:
            process.kill()
