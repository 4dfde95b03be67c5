"""Fixtures that more than one folder of tests uses."""

import os

from tests import fix_hypothesis
from tests.fix_local import clickhouse_server, kafka_broker
from tests.fix_roles import passable, unprivileged_user
from tests.fix_root import bpffs, root_and_bcc, way
from tests.fix_zone import berlin

__all__ = [
    "berlin",
    "bpffs",
    "clickhouse_server",
    "fix_hypothesis",
    "kafka_broker",
    "passable",
    "root_and_bcc",
    "unprivileged_user",
    "way",
]

# a broker of a test lives for seconds: the JVM's second compiler would take a third of its CPU and give nothing back
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")
