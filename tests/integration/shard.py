"""A chDB that is the one shard of a cluster `main`: statements as a list in JSON on stdin, what they say on stdout.

chDB has the engine Distributed and reads a cluster from its configuration, but runs nothing ON CLUSTER. With a
ZooKeeper it makes Replicated tables, and keeps them read-only.

Run: python -m tests.integration.shard DIRECTORY [ZOOKEEPER_PORT] < statements
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import chdb

_CLUSTER = """<clickhouse>
<tcp_port>9000</tcp_port>
<remote_servers><main><shard><internal_replication>true</internal_replication>
<replica><host>127.0.0.1</host><port>9000</port></replica></shard></main></remote_servers>
<macros><shard>1</shard><replica>1</replica></macros>
<default_replica_path>/clickhouse/tables/{{database}}/{{table}}/{{shard}}</default_replica_path>
{zookeeper}
</clickhouse>
"""
_ZOOKEEPER = "<zookeeper><node><host>127.0.0.1</host><port>{port}</port></node></zookeeper>"


def main(directory: Path, port: str = "") -> None:
    """Each statement as long as none fails -> a list of `rows` (lists of text) or `error`."""
    config = directory / "config.xml"
    config.write_text(_CLUSTER.format(zookeeper=_ZOOKEEPER.format(port=port) if port else ""))
    connection: Any = chdb.connect(f"{directory / 'data'}?config-file={config}")  # type: ignore[no-untyped-call]
    answers: list[dict[str, Any]] = []
    for statement in json.load(sys.stdin):
        try:
            text = connection.query(statement, "TSV").bytes().decode()
        except RuntimeError as error:
            answers.append({"error": f"{error}\nof {statement}"})
            break
        answers.append({"rows": [line.split("\t") for line in text.splitlines()]})
    json.dump(answers, sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # with a ZooKeeper, closing it may hang or abort


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
