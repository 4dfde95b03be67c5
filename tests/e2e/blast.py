"""Sends small UDP datagrams at a bounded rate from many ports, as raw frames.

Run: python -m tests.e2e.blast INTERFACE SOURCE_MAC TARGET_MAC SOURCE TARGET PACKETS PACKETS_PER_SECOND FLOWS
"""

import socket
import struct
import sys
import time


def frame(source_mac: str, target_mac: str, source: str, target: str, port: int) -> bytes:
    """An Ethernet frame of 60 octets: IPv4, UDP, 18 octets of payload."""
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 46, 0, 0, 64, 17, 0, socket.inet_aton(source), socket.inet_aton(target))
    total = sum(struct.unpack(">10H", ip))
    total = (total & 0xFFFF) + (total >> 16)
    ip = ip[:10] + struct.pack(">H", ~(total + (total >> 16)) & 0xFFFF) + ip[12:]
    ethernet = bytes.fromhex((target_mac + source_mac).replace(":", "")) + b"\x08\x00"
    return ethernet + ip + struct.pack(">HHHH", port, 9, 26, 0) + bytes(18)


def main(
    interface: str, source_mac: str, target_mac: str, source: str, target: str, packets: int, rate: int, flows: int
) -> None:
    frames = [frame(source_mac, target_mac, source, target, 10_000 + i) for i in range(flows)]
    sent, missed, burst = 0, 0, 100
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((interface, 0))
        start = time.perf_counter()
        while sent < packets:
            for _ in range(min(burst, packets - sent)):
                while True:
                    try:
                        sock.send(frames[sent % flows])
                        break
                    except OSError:  # ENOBUFS: the queue is full; the frame was not sent
                        missed += 1
                        time.sleep(0.001)
                sent += 1
            ahead = sent / rate - (time.perf_counter() - start)
            if ahead > 0:
                time.sleep(ahead)
        seconds = time.perf_counter() - start
    print(f"{sent} packets in {seconds:.2f} s, {sent / seconds:.0f} a second, {missed} sends tried again", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:6], *(int(word) for word in sys.argv[6:]))  # type: ignore[arg-type]
