"""A program of others that pushes a VLAN tag, as a VLAN device does: into the socket buffer, beside the frame."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from producer.kernel import bpfsys
from tests.kernel import veth

SOURCE = b"""
#include <uapi/linux/bpf.h>
int push(struct __sk_buff *skb)
{
    bpf_skb_vlan_push(skb, bpf_htons(0x8100), VLAN);
    return -1;      /* TC_ACT_UNSPEC: the next filter */
}
"""


@contextlib.contextmanager
def pushed(interface: str, vlan: int, pins: Path) -> Iterator[None]:
    """All that leaves by an interface gets a tag, before later filters see it."""
    import bcc

    module = bcc.BPF(text=SOURCE, cflags=[f"-DVLAN={vlan}"])
    pin = pins / f"push-{interface}"
    pins.mkdir(parents=True, exist_ok=True)
    bpfsys.obj_pin(module.load_func(b"push", bcc.BPF.SCHED_CLS).fd, pin)
    try:
        veth.tc("qdisc", "add", "dev", interface, "clsact")
        veth.tc("filter", "add", "dev", interface, "egress", "prio", "1", "bpf", "da", "object-pinned", str(pin))
        yield
    finally:
        pin.unlink()
        module.cleanup()
