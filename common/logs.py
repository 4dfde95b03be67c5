"""Logs: one line an event with a stable `action` key; JSON when nobody watches, text on a terminal.

    log = logs.get("producer")
    log.info("attached", interface="eth0", seconds=0.8)

The standard library's logging underneath, so that other libraries' messages come out in the same form
(structlog does the same for 5 MB more in every process).
"""

import json
import logging
import sys
import time
from typing import Any, Literal, TextIO

LogFormat = Literal["auto", "text", "json"]


class Log:
    """A component's logger. `action` names what happened, in a few words that never change; the rest are fields."""

    def __init__(self, component: str) -> None:
        self._logger = logging.getLogger(f"ayaflow.{component}")

    def debug(self, action: str, **fields: Any) -> None:
        """For whoever looks for a bug."""
        self._logger.debug(action, extra={"fields": fields})

    def info(self, action: str, **fields: Any) -> None:
        """Something began, ended or changed."""
        self._logger.info(action, extra={"fields": fields})

    def warning(self, action: str, **fields: Any) -> None:
        """Something is wrong, and we go on."""
        self._logger.warning(action, extra={"fields": fields})

    def error(self, action: str, *, cause: BaseException | None = None, **fields: Any) -> None:
        """Something failed. `cause` adds the traceback."""
        self._logger.error(action, extra={"fields": fields}, exc_info=cause)


class _Formatter(logging.Formatter):
    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        component = record.name.removeprefix("ayaflow.")
        trace = self.formatException(record.exc_info) if record.exc_info else None
        if self._as_json:
            line = {
                "time": self._time(record),
                "level": record.levelname.lower(),
                "component": component,
                "action": record.getMessage(),
                **fields,
            }
            if trace:
                line["traceback"] = trace
            return json.dumps(line, default=str)
        text = f"{self._time(record)} {record.levelname:<7} {component}: {record.getMessage()}"
        text += "".join(f" {key}={value}" for key, value in fields.items())
        return f"{text}\n{trace}" if trace else text

    @staticmethod
    def _time(record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return f"{stamp}.{int(record.msecs):03d}Z"


def get(component: str) -> Log:
    """The logger of a component."""
    return Log(component)


def configure(*, level: str = "info", form: LogFormat = "auto", stream: TextIO | None = None) -> None:
    """Send all logs of this process to `stream` (default: standard error)."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Formatter(as_json=form == "json" or (form == "auto" and not stream.isatty())))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)  # other libraries
    logging.getLogger("ayaflow").setLevel(level.upper())
