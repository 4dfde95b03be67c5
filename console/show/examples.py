"""What the API's description shows: one connection, as it is stored and as it is seen now."""

from typing import Any

from console.query import flow_sql
from schemas.fields import LIVE_KEYS

_VALUES: dict[str, Any] = {
    "window_begin": "2026-05-01T12:00:10Z",
    "window_seconds": 10,
    "node": "gateway-1",
    "interface": "eth0",
    "direction": "egress",
    "primary": True,
    "protocol": 6,
    "src_addr": "10.0.0.7",
    "dst_addr": "192.0.2.10",
    "src_port": 51234,
    "dst_port": 443,
    "vlan_id": 0,
    "icmp_type": 0,
    "icmp_code": 0,
    "tunnel_type": "none",
    "tunnel_id": 0,
    "outer_src_addr": "",
    "outer_dst_addr": "",
    "packets": 120,
    "bytes": 9_000,
    "packets_rev": 240,
    "bytes_rev": 340_000,
    "tcp_flags": 24,
    "tcp_flags_rev": 24,
    "min_ttl": 64,
    "max_ttl": 64,
    "min_ttl_rev": 57,
    "max_ttl_rev": 57,
    "dscp": 0,
    "dscp_rev": 0,
    "min_packet_bytes": 54,
    "max_packet_bytes": 571,
    "min_packet_bytes_rev": 60,
    "max_packet_bytes_rev": 1_514,
    "domain": "www.example.org",
    "domain_source": "sni",
    "domain_count": 1,
    "ja4": "t13d1516h2_8daaf6152771_e5627efa2ab1",
    "alpn": "h2",
    "first_seen": "2026-05-01T12:00:10.001000Z",
    "last_seen": "2026-05-01T12:00:19.900000Z",
    "community_id": "1:LQU9qZlK+B5F3KDmev6m5PMibrg=",
}
FLOW = {name: _VALUES.get(name, 0) for name in flow_sql.COLUMNS}
"""A row of /api/history and /api/flows."""

CONNECTION: dict[str, Any] = {
    "node": FLOW["node"],
    **{field.name: FLOW[field.name] for field in LIVE_KEYS},
    "protocol_name": "tcp",
    "domain": FLOW["domain"],
    "domain_source": FLOW["domain_source"],
    "packets": 1_200,
    "bytes": 90_000,
    "packets_rev": 2_400,
    "bytes_rev": 3_400_000,
    "bytes_per_second": 250_000.0,
    "packets_per_second": 260.0,
    "first_seen": "2026-05-01T12:00:00.000000Z",
    "last_seen": "2026-05-01T12:00:14.250000Z",
}
"""A row of /api/live."""
