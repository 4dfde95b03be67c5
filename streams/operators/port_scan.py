"""Who tries many ports of a host, or one port of many hosts, in a window. Pure."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from common.errors import SettingsError

_TCP, _UDP, _RST, _FEW = 6, 17, 4, 3


class PortScan:
    """Counts tries that came to nothing: TCP that was refused or not answered, UDP that was not answered.

    A vertical scan is one source and one host, `targets` its ports; a horizontal one a source and one port, `targets`
    its hosts.
    """

    name = "port_scan"
    schema = pa.schema(
        [
            ("node", pa.string()),
            ("kind", pa.string()),  # vertical or horizontal
            ("protocol", pa.int32()),
            ("src_addr", pa.string()),
            ("dst_addr", pa.string()),  # of a horizontal scan empty
            ("dst_port", pa.int32()),  # of a vertical scan 0
            ("targets", pa.int64()),
            ("packets", pa.int64()),
            ("first_seen", pa.timestamp("us")),
            ("last_seen", pa.timestamp("us")),
        ]
    )

    def __init__(self, targets: int = 50) -> None:
        """`targets`: so many ports, or hosts, are a scan."""
        if not isinstance(targets, int) or targets < 2:
            raise SettingsError("streams.operator_options: port_scan.targets must be a whole number from 2 on")
        self._targets = targets

    def window(self, flows: pa.Table) -> pa.Table | None:
        """See streams.operators.operator."""
        tries = flows.filter(_in_vain(flows))
        if len(tries) < self._targets:
            return None
        vertical = self._scans(tries, "vertical", of="dst_addr", counted="dst_port", other=("dst_port", 0))
        horizontal = self._scans(tries, "horizontal", of="dst_port", counted="dst_addr", other=("dst_addr", ""))
        return pa.concat_tables([vertical, horizontal])

    def _scans(self, tries: pa.Table, kind: str, *, of: str, counted: str, other: tuple[str, Any]) -> pa.Table:
        keys = ["node", "protocol", "src_addr", of]
        found = tries.group_by(keys).aggregate(
            [(counted, "count_distinct"), ("packets", "sum"), ("first_seen", "min"), ("last_seen", "max")]
        )
        found = found.rename_columns(
            {
                f"{counted}_count_distinct": "targets",
                "packets_sum": "packets",
                "first_seen_min": "first_seen",
                "last_seen_max": "last_seen",
            }
        )
        found = found.filter(pc.greater_equal(found["targets"], self._targets))
        found = found.sort_by([(key, "ascending") for key in keys])
        for name, value in (("kind", kind), other):
            found = found.append_column(name, pa.repeat(pa.scalar(value, self.schema.field(name).type), len(found)))
        return found.select(self.schema.names).cast(self.schema)


def _in_vain(flows: pa.Table) -> Any:
    """Which flows are such tries."""
    refused = pc.not_equal(pc.bit_wise_and(flows["tcp_flags_rev"], _RST), 0)
    silent = pc.equal(flows["packets_rev"], 0)
    short = pc.less_equal(flows["packets"], _FEW)
    tcp = pc.and_(pc.equal(flows["protocol"], _TCP), pc.and_(pc.or_(refused, silent), short))
    udp = pc.and_(pc.equal(flows["protocol"], _UDP), silent)
    return pc.and_(flows["primary"], pc.or_(tcp, udp))
