"""What gets more packets in a window than it should: a flood, a backup, a loop. Pure."""

import pyarrow as pa
import pyarrow.compute as pc

from common.errors import SettingsError


class Burst:
    """Adds up what goes to one address and port, from whomever."""

    name = "burst"
    schema = pa.schema(
        [
            ("node", pa.string()),
            ("protocol", pa.int32()),
            ("dst_addr", pa.string()),
            ("dst_port", pa.int32()),
            ("sources", pa.int64()),  # addresses that sent it
            ("packets", pa.int64()),
            ("bytes", pa.int64()),
            ("packets_per_second", pa.int64()),
        ]
    )

    def __init__(self, packets_per_second: int = 10_000) -> None:
        """`packets_per_second`: so many, over the whole window, are a burst."""
        if not isinstance(packets_per_second, int) or packets_per_second < 1:
            raise SettingsError("streams.operator_options: burst.packets_per_second must be a whole number from 1 on")
        self._least = packets_per_second

    def window(self, flows: pa.Table) -> pa.Table | None:
        """See streams.operators.operator."""
        seconds = flows["window_seconds"][0].as_py()
        keys = ["node", "protocol", "dst_addr", "dst_port"]
        found = (
            flows.filter(flows["primary"])
            .group_by(keys)
            .aggregate([("src_addr", "count_distinct"), ("packets", "sum"), ("bytes", "sum")])
            .rename_columns({"src_addr_count_distinct": "sources", "packets_sum": "packets", "bytes_sum": "bytes"})
        )
        found = found.filter(pc.greater_equal(found["packets"], self._least * seconds))
        found = found.append_column("packets_per_second", pc.divide(found["packets"], seconds))
        return found.sort_by([(key, "ascending") for key in keys]).select(self.schema.names).cast(self.schema)
