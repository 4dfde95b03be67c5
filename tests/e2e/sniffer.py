"""Writes every frame of an interface to a file, without any code of ayaflow: the truth that tests compare with.

Run: python -m tests.e2e.sniffer INTERFACE FILE — until SIGTERM; then prints the number of frames it missed.
Each frame is a 4-byte big-endian length and its octets.
"""

import select
import signal
import socket
import struct
import sys
from pathlib import Path

ETH_P_ALL = 3
SOL_PACKET, PACKET_STATISTICS = 263, 6


def main(interface: str, file: str) -> None:
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as sock,
        Path(file).open("wb") as out,
    ):
        sock.setsockopt(socket.SOL_SOCKET, 33, 1 << 28)  # SO_RCVBUFFORCE
        sock.bind((interface, ETH_P_ALL))
        sock.setblocking(False)
        running = True

        def stop(*_: object) -> None:
            nonlocal running
            running = False

        signal.signal(signal.SIGTERM, stop)
        print("ready", flush=True)
        while True:
            readable, _, _ = select.select([sock], [], [], 0.1)
            if not readable:
                if not running:
                    break
                continue
            frame = sock.recv(1 << 17)
            out.write(struct.pack(">I", len(frame)) + frame)
        missed = struct.unpack("II", sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]
        print(missed, flush=True)


def frames(file: Path) -> list[bytes]:
    """What a sniffer wrote."""
    data, result, at = file.read_bytes(), [], 0
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        result.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return result


if __name__ == "__main__":
    main(*sys.argv[1:])
