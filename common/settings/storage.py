"""Settings of what is stored beside flows."""

import re

from pydantic import Field, field_validator

from common.settings.base import Section

_DURATION = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_LONGEST_SECONDS = 30 * 86_400


class StorageSettings(Section):
    """What is stored beside flows, while it is wanted (docs/windows.md)."""

    packets: str = Field(
        "off",
        description="Keep each packet in the table `packets` for so long, such as 30m or 1h, up to 30d; off: none.",
    )

    @field_validator("packets")
    @classmethod
    def _known(cls, value: str) -> str:
        _seconds(value)
        return value

    @property
    def packets_seconds(self) -> int:
        """For so long; 0: none is kept."""
        return _seconds(self.packets)


def _seconds(text: str) -> int:
    """Of a duration as people write it. Raises ValueError."""
    word = text.strip().lower()
    if word == "off":
        return 0
    found = _DURATION.fullmatch(word)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 60 <= seconds <= _LONGEST_SECONDS:
        raise ValueError("write off, or for how long: from 1m to 30d, such as 30m or 1h")
    return seconds
