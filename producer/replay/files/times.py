"""Time stamps of pcapng in nanoseconds. Pure."""

import numpy as np
import numpy.typing as npt

from schemas.packets import I64

_NANO = 9
_FAR = 2**40  # seconds: out of range, whatever sensible offset is added
_OUT = 2**33  # seconds: out of range, and fits as nanoseconds


def to_ns(ticks: npt.NDArray[np.uint64], resolution: int, offset_seconds: int) -> I64:
    """Ticks of a pcapng interface, shape (n,), to nanoseconds since the Unix epoch; what is out of range stays so.

    `resolution` is if_tsresol: a tick is 10^-r seconds, or 2^-(r & 0x7f) when its top bit is set.
    """
    exponent = resolution & 0x7F
    offset = max(-_FAR // 2, min(_FAR // 2, offset_seconds))
    if resolution & 0x80:
        seconds, nanoseconds = _binary(ticks, exponent)
    else:
        seconds, nanoseconds = _decimal(ticks, exponent)
    whole = np.minimum(seconds, np.uint64(_FAR)).astype(np.int64) + offset
    return np.clip(whole, -1, _OUT) * 1_000_000_000 + nanoseconds.astype(np.int64)


def _binary(ticks: npt.NDArray[np.uint64], bits: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    if bits >= 64:
        fraction = ticks >> np.uint64(min(63, bits - 32)) if bits - 32 < 64 else ticks * np.uint64(0)
        return ticks * np.uint64(0), fraction * np.uint64(10**9) >> np.uint64(32)
    fraction = ticks & np.uint64((1 << bits) - 1)
    if bits > 32:  # so many that fraction * 10^9 would not fit; what is cut off is less than a nanosecond
        fraction, bits_left = fraction >> np.uint64(bits - 32), 32
    else:
        bits_left = bits
    return ticks >> np.uint64(bits), fraction * np.uint64(10**9) >> np.uint64(bits_left)


def _decimal(ticks: npt.NDArray[np.uint64], digits: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    if digits > 19:  # 10^20 ticks a second: all of them are less than one
        tiny = 10 ** (digits - _NANO)
        nanoseconds = ticks // np.uint64(tiny) if tiny < 2**64 else ticks * np.uint64(0)
        return ticks * np.uint64(0), nanoseconds
    unit = np.uint64(10**digits)
    fraction = ticks % unit
    scale = np.uint64(10 ** abs(digits - _NANO))
    return ticks // unit, fraction // scale if digits > _NANO else fraction * scale
