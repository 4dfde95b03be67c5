"""The settings of logs."""

from typing import Literal

from pydantic import Field

from common.settings.base import Section


class LogSettings(Section):
    """Logs."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is written.")
    format: Literal["auto", "text", "json"] = Field("auto", description="auto: text on a terminal, else JSON.")
