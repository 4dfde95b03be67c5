"""Runs the pinned kernel program over frames of many flows, as fast as one CPU can, for some seconds.

Run: python -m tests.bench.feed PINNED_PROGRAM FLOWS SECONDS; prints how many packets it was.
"""

import sys
import time
from pathlib import Path

from producer.kernel import bpfsys
from tests.bench.kernel import frame, on_last_cpu

REPEAT = 64  # of each frame, so that the system call does not count


def main(program: str, flows: int, seconds: float) -> None:
    on_last_cpu()
    fd = bpfsys.obj_get(Path(program))
    frames = []
    for number in range(flows):
        octets = bytearray(frame())
        octets[26:30] = (0x0A000001 + number).to_bytes(4, "big")
        frames.append(bytes(octets))
    packets, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for packet in frames:
            bpfsys.prog_test_run(fd, packet, repeat=REPEAT)
        packets += flows * REPEAT
    print(packets)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
