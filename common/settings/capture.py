"""What is watched on a node."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from common.settings.base import Section


class CaptureSettings(Section):
    """What is watched on this node."""

    interfaces: list[str] = Field(
        [],
        description="Interfaces to watch, also when they come later: names, globs such as eth*, !name to leave out, "
        "auto for those that carry a default route. Empty: auto. With a slash, of a namespace: NAMESPACE/INTERFACE.",
    )
    namespaces: bool = Field(
        False,
        description="Watch interfaces in the network namespaces of /run/netns too: those that a pattern with a slash "
        "in capture.interfaces matches, or else all but the loopback ones.",
    )
    ring_bytes: int = Field(
        16 << 20, ge=1 << 16, le=1 << 30, description="Size of the kernel's ring buffer; a power of two."
    )
    detail: Literal["packet", "flow"] = Field(
        "packet",
        description="packet: the kernel sends an event a packet, and adds packets up by flow only when the ring buffer "
        "is nearly full. flow: it always adds them up; once a second a flow's sums are sent.",
    )
    flow_entries: int = Field(
        131_072,
        ge=1024,
        le=1 << 24,
        description="Room of the kernel's flow table, of which it has two: a flow takes an entry a second. "
        "An entry takes about 180 bytes.",
    )
    orphan_timeout_seconds: int = Field(
        300,
        ge=5,
        description="After so long without a producer the kernel program does nothing, until one starts again.",
    )
    epoch_ms: int = Field(
        500,
        ge=50,
        le=10_000,
        description="How often the kernel's counters are closed and the node's clock is sent (ms); with detail: flow "
        "also the flows' sums, and at least 1000.",
    )
    decapsulate: list[Literal["vxlan", "geneve", "gre", "ipip", "gtpu"]] = Field(
        [],
        description="Tunnels that are opened: a flow is then the inner one, with the tunnel beside it. ipip stands for "
        "IPv4 and IPv6 in either. Empty: a tunnel is a flow like others.",
    )
    inspect: bool = Field(
        False,
        description="Copy the beginning of packets that may carry a name (DNS, TLS and QUIC handshakes, HTTP requests, "
        "on any port) and read the names on this node; only names leave it, not payload.",
    )
    inspect_bytes: int = Field(
        2048,
        ge=128,
        le=2048,
        description="So much of a packet's payload is copied at most. With 512, one TLS name in seven is missed.",
    )
    inspect_budget: int = Field(
        20_000,
        ge=1,
        le=10_000_000,
        description="Copies a second at most, all CPUs together: so a flood cannot take the node's time. What is "
        "beyond is counted.",
    )
    inspect_ring_bytes: int = Field(
        8 << 20, ge=1 << 16, le=1 << 30, description="Size of the ring buffer of copies; a power of two."
    )
    loader: Literal["auto", "bcc", "object"] = Field(
        "bcc",
        description="Where the kernel program comes from. bcc: compiled on this node, which needs python3-bpfcc and "
        "kernel headers. object: as clang compiled it when ayaflow was installed. auto: object where it was, else bcc.",
    )
    bpffs: Path = Field(
        Path("/sys/fs/bpf"),
        description="Where the kernel's BPF file system is mounted; pins go to ayaflow/NODE below it.",
    )

    @property
    def inspected_bytes(self) -> int:
        """Octets of a packet that are copied at most; 0: none."""
        return self.inspect_bytes if self.inspect else 0
