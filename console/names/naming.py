"""Whether addresses are named, as the settings say."""

from contextlib import AbstractContextManager, nullcontext

from common.settings import NamesSettings
from console.live.hub import Naming


def naming(settings: NamesSettings) -> AbstractContextManager[Naming | None]:
    """Reverse DNS, until the end of `with`; None where it is not wanted."""
    if not settings.reverse:
        return nullcontext()
    from console.names.reverse import ReverseNames  # dnspython takes 45 ms

    return ReverseNames(settings)
