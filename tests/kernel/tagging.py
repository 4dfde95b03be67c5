"""A program of others that pushes a VLAN tag, as a VLAN device does: into the socket buffer, beside the frame."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from producer.kernel import bpfsys, tcx
from tests.kernel import veth

SOURCE = b"""
#include <uapi/linux/bpf.h>
int push(struct __sk_buff *skb)
{
    bpf_skb_vlan_push(skb, bpf_htons(0x8100), VLAN);
    return -1;      /* TC_ACT_UNSPEC, TCX_NEXT: the next one */
}
"""


@contextlib.contextmanager
def pushed(interface: str, vlan: int, pins: Path) -> Iterator[None]:
    """All that leaves by an interface gets a tag, before the programs see it that are attached already."""
    import bcc

    module = bcc.BPF(text=SOURCE, cflags=[f"-DVLAN={vlan}"])
    program = module.load_func(b"push", bcc.BPF.SCHED_CLS).fd
    with contextlib.ExitStack() as undo:
        undo.callback(module.cleanup)
        if tcx.is_known():
            link = tcx.attach(program, socket.if_nametoindex(interface), tcx.TCX[1])
            undo.callback(os.close, link)
        else:
            pins.mkdir(parents=True, exist_ok=True)
            bpfsys.obj_pin(program, pin := pins / f"push-{interface}")
            undo.callback(pin.unlink)
            veth.tc("filter", "add", "dev", interface, "egress", "prio", "1", "bpf", "da", "object-pinned", str(pin))
        yield
