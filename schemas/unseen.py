"""Whether packets that a device counted and our hooks did not see are a hole, or what devices do. Pure.

A device may count frames that it keeps to itself (flow control, link layer management). So of a place in a minute, some
packets or a small part of all are no hole; but where nothing at all of what a device counted was seen, few are one.
"""

READ_SECONDS = 5
"""Between two readings of the devices' counters."""
SPAN_SECONDS = 60
FEW = 10  # packets, when they are all that the device counted
SOME = 16  # packets, when others were seen
PART = 50  # and one in so many of what the device counted


def is_hole(device_packets: int, unseen_packets: int) -> bool:
    """Of one place, over SPAN_SECONDS at most: `unseen_packets` of `device_packets`."""
    if unseen_packets == device_packets:
        return unseen_packets >= FEW
    return unseen_packets > SOME and unseen_packets * PART > device_packets


def hole_sql(device_packets: str, unseen_packets: str) -> str:
    """The same in SQL, of two expressions."""
    return (
        f"if({unseen_packets} = {device_packets}, {unseen_packets} >= {FEW},"
        f" {unseen_packets} > {SOME} AND {unseen_packets} * {PART} > {device_packets})"
    )
