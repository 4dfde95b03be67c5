"""`ayaflow demo`: the real system, on ports and in a folder of its own, with an office and a world to look at."""

import socket
import sys
from pathlib import Path

from common.address import Address
from common.settings import (
    CaptureSettings,
    ClickHouseSettings,
    KafkaSettings,
    LiveSettings,
    NamesSettings,
    ProducerSettings,
    SchemaRegistrySettings,
    Settings,
    StorageSettings,
    StreamsSettings,
)
from deploy.local import endpoints
from deploy.local.demo import apart, plan, stage
from deploy.local.process import make_directory
from deploy.local.up import run as up
from producer.kernel import environment

_KAFKA_HEAP_MB = 256


def run(settings: Settings) -> int:
    """Run until SIGINT or SIGTERM -> exit code. Of `settings` only `console`, `local` and `log` count.

    Raises EnvironmentProblem or SettingsError, as `ayaflow up`.
    """
    environment.check_privileges()
    with apart.place() as folder:
        demo = _settings(settings, folder)
        logs = folder / "logs"
        make_directory(logs)
        stage.build()
        with stage.acting(logs):
            module = [sys.executable, "-P", "-m", "deploy.local.demo.yesterday"]
            past = stage.start([*module, str(folder), demo.streams.metrics_listen], logs / "yesterday.log")
            try:
                return up.run(demo)
            finally:
                past.kill()
                past.wait()


def _settings(given: Settings, folder: Path) -> Settings:
    """Those of the demo: nothing of what is given names a server, a topic or a folder of somebody else."""
    listen = Address.parse(given.console.listen, "console.listen")
    if endpoints.in_use(listen):
        listen = Address(host=listen.host, port=_free_port(), setting=listen.setting)
    heap = min(given.local.kafka_heap_mb, _KAFKA_HEAP_MB)
    sections = {
        "node": plan.NODE,
        "data_dir": folder,
        "capture": CaptureSettings(
            interfaces=[plan.WATCHED], namespaces=True, inspect=True, loader="auto", bpffs=folder / apart.BPFFS
        ),
        "producer": ProducerSettings(metrics_listen=_free()),
        "kafka": KafkaSettings(bootstrap_servers=_free()),
        "schema_registry": SchemaRegistrySettings(),
        "streams": StreamsSettings(metrics_listen=_free()),
        "clickhouse": ClickHouseSettings(url=f"http://{_free()}"),
        "storage": StorageSettings(),
        "console": given.console.model_copy(update={"listen": listen.text, "producers": [], "streams": []}),
        "live": LiveSettings(),
        "names": NamesSettings(),
        "local": given.local.model_copy(update={"kafka_controller_port": _free_port(), "kafka_heap_mb": heap}),
    }
    return given.model_copy(update=sections)


def _free() -> str:
    return f"127.0.0.1:{_free_port()}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
