"""What a Source would hand over, without Kafka."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ayaflow.consume.fetched import Fetched, Opened, Stretch


def fetched(memory: Any, values: Sequence[bytes], *, begin: int = 0, first: int = 0) -> Fetched[Any]:
    """Messages of partition 0 from offset `first` on; those before `begin` are only remembered."""
    count = len(values)
    opened = Opened(begin, first + count, None, memory)
    stretch = Stretch(opened=opened, numbers=np.arange(count), begin=max(begin, first), end=first + count, missing=0)
    return Fetched(values=[*values], offsets=np.arange(first, first + count), stretches={0: stretch})
