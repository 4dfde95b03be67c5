"""The obvious way: a Faust app that takes one PacketEvent a message and counts it in a tumbling window.

Run: python -m tests.bench.plain_faust BOOTSTRAP TOPIC MESSAGES; prints the messages it counted a second.
"""

import io
import json
import os
import sys
import time
import warnings
from typing import Any

warnings.simplefilter("ignore")

import fastavro  # noqa: E402
import faust  # noqa: E402

from schemas.avro.registry import newest  # noqa: E402


def main(bootstrap: str, topic_name: str, count: int) -> None:
    app = faust.App(
        f"plain-{time.time_ns()}",
        broker=f"kafka://{bootstrap}",
        consumer_auto_offset_reset="earliest",
        web_enabled=False,
        topic_disable_leader=True,
        topic_partitions=1,
        value_serializer="raw",
        key_serializer="raw",
        store="memory://",
    )
    schema = fastavro.parse_schema(json.loads(newest("PacketEvent")))
    topic = app.topic(topic_name, value_serializer="raw", key_serializer="raw", partitions=1)
    flows = app.Table("flows", default=int, partitions=1).tumbling(10.0, expires=60.0)
    seen, begin = 0, 0.0

    async def windowed(stream: Any) -> None:
        nonlocal seen, begin
        async for message in stream:
            begin = begin or time.perf_counter()
            event: Any = fastavro.schemaless_reader(io.BytesIO(message[5:]), schema, None)
            key = "|".join(str(event[name]) for name in ("src_addr", "src_port", "dst_addr", "dst_port", "protocol"))
            flows[key] += event["packets"]
            seen += 1
            if seen == count:
                rate = count / (time.perf_counter() - begin)
                os.write(1, f"\nrate {rate:.1f}\n".encode())  # Faust turns print into log lines
                os._exit(0)

    app.agent(topic)(windowed)
    faust.Worker(app, loglevel="error", quiet=True).execute_from_commandline()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
