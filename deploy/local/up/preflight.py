"""What must be true before `ayaflow up` starts anything: all that is wrong is said at once."""

import shutil
from collections.abc import Callable
from pathlib import Path

from common.address import Address
from common.errors import AyaflowError, EnvironmentProblem, SettingsError
from common.settings import CaptureSettings, KafkaSettings, LocalSettings, Settings
from deploy.local import endpoints
from deploy.local.process import make_directory
from producer.interfaces import selection
from producer.kernel import environment
from producer.kernel.load import choice

LEAST_FREE_BYTES = 1 << 30


def check(settings: Settings) -> None:
    """Raise EnvironmentProblem (SettingsError when only settings are wrong) with a sentence a line."""
    if found := problems(settings):
        kind = SettingsError if all(isinstance(error, SettingsError) for error in found) else EnvironmentProblem
        raise kind("\n".join(str(error) for error in found))


def problems(settings: Settings) -> list[AyaflowError]:
    """All that is wrong."""
    found: list[AyaflowError] = []
    for one in (
        environment.check_privileges,
        environment.check_kernel,
        lambda: watched(settings.capture),
        lambda: choice.check(settings.capture.loader),
        lambda: programs(settings.kafka, settings.local),
        lambda: disk(settings.data_dir),
        *(_port(address) for address in listeners(settings)),
    ):
        try:
            one()
        except AyaflowError as error:
            found.append(error)
    return found


def watched(settings: CaptureSettings) -> None:
    """Raise when an interface does not exist, or none can be chosen."""
    selection.choose(settings.interfaces, selection.Links.of_this_machine())


def programs(settings: KafkaSettings, local: LocalSettings) -> None:
    """Raise EnvironmentProblem when Java or Kafka's jars are missing; not when Kafka runs elsewhere."""
    if endpoints.kafka(settings).is_loopback:
        from deploy.local.kafka import broker as kafka

        kafka.find_jars(local.kafka_jars_dir)
        kafka.find_java()


def disk(directory: Path) -> None:
    """Raise EnvironmentProblem when the data directory cannot be written, or its disk is nearly full."""
    make_directory(directory)
    free = shutil.disk_usage(directory).free
    if free < LEAST_FREE_BYTES:
        raise EnvironmentProblem(
            f"the disk of {directory} has {free >> 20} MB left, and 1 GB is the least to begin "
            "with. Make room, or set data_dir"
        )


def listeners(settings: Settings) -> list[Address]:
    """The addresses that the stages will listen on."""
    found = []
    kafka, clickhouse = endpoints.kafka(settings.kafka), endpoints.clickhouse(settings.clickhouse)
    if kafka.is_loopback:
        controller = settings.local.kafka_controller_port
        found += [kafka, Address(host="127.0.0.1", port=controller, setting="local.kafka_controller_port")]
    if clickhouse.is_loopback:
        found.append(clickhouse)
    for text, setting in (
        (settings.producer.metrics_listen, "producer.metrics_listen"),
        (settings.streams.metrics_listen, "streams.metrics_listen"),
        (settings.console.listen, "console.listen"),
    ):
        found.append(Address.parse(text, setting))
    return found


def _port(address: Address) -> Callable[[], None]:
    def free() -> None:
        if endpoints.in_use(address):
            raise EnvironmentProblem(endpoints.refusal(address))

    return free
