"""Where benchmarks run: a BPF file system, a broker, a ClickHouse and interfaces of their own, gone afterwards."""

import contextlib
from collections.abc import Iterator

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.fix_local import running_clickhouse, running_kafka, temporary_directory
from tests.fix_root import bpf_filesystem
from tests.kernel.veth import pair

__all__ = ["bpf_filesystem", "clickhouse", "create_topic", "kafka", "pair", "temporary_directory"]


@contextlib.contextmanager
def kafka() -> Iterator[str]:
    """A broker with our topics -> its address."""
    with temporary_directory() as directory, running_kafka(directory) as (bootstrap, _):
        yield bootstrap


@contextlib.contextmanager
def clickhouse() -> Iterator[str]:
    """An embedded ClickHouse -> its URL."""
    with temporary_directory() as directory, running_clickhouse(directory) as (url, _):
        yield url


def create_topic(broker: str, name: str) -> str:
    """A topic with one partition -> its name."""
    admin = AdminClient({"bootstrap.servers": broker})
    for made in admin.create_topics([NewTopic(name, 1, 1)]).values():
        made.result(20)
    return name
