"""Logs: one line an event with a stable `action` key; JSON when nobody watches, text on a terminal.

    log = logs.get("producer")
    log.info("attached", interface="eth0", seconds=0.8)

The standard library's logging underneath, so that other libraries' messages come out in the same form
(structlog does the same for 5 MB more in every process). What happens again and again is said once a minute, whoever
says it: the length of a log is a matter of time, not of tries.
"""

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Literal, TextIO

from common.plain import plain, plain_lines
from common.times import iso

LogFormat = Literal["auto", "text", "json"]

EVERY_SECONDS = 60.0
LIBRDKAFKA = "librdkafka"  # the logger of Kafka's C library: give it to a client that is polled
_MOST_THINGS = 1_000


class Limit:
    """Whether something that happens again and again is to be said now: the first time, then once a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: in seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._said: dict[Hashable, tuple[float, int]] = {}  # when last, and how often it happened since

    def due(self, thing: Hashable) -> int:
        """0: not now. Else how often it has happened since it was said last, this time included."""
        now = self._clock()
        with self._lock:
            at, since = self._said.get(thing, (float("-inf"), 0))
            if now - at < EVERY_SECONDS:
                self._said[thing] = at, since + 1
                return 0
            if len(self._said) >= _MOST_THINGS:  # somebody's texts are all different
                self._said = {key: said for key, said in self._said.items() if now - said[0] < EVERY_SECONDS}
                if len(self._said) >= _MOST_THINGS:
                    return 0  # nobody reads a thousand lines a minute
            self._said[thing] = now, 0
            return since + 1


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
        text = plain(text + "".join(f" {key}={value}" for key, value in fields.items()))
        return f"{text}\n{plain_lines(trace)}" if trace else text

    @staticmethod
    def _time(record: logging.LogRecord) -> str:
        return iso(record.created, digits=3)


class OncePerMinute(logging.Filter):
    """Limits what other libraries say, each of their messages for itself; `times` tells how often it came."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._limit = Limit(clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is said now."""
        if record.name.startswith("ayaflow."):
            return True
        # librdkafka has one format for all, and its first argument is what it is about: FAIL, ERROR, ...
        about = record.args[0] if record.name == LIBRDKAFKA and isinstance(record.args, tuple) and record.args else ""
        times = self._limit.due((record.name, str(record.msg), about))
        if times > 1:
            record.fields = {"times": times}
        return times > 0


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to what is standard error then: whoever replaces it for a while (a test, a view of the screen) has all."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def get(component: str) -> Log:
    """The logger of a component."""
    return Log(component)


def configure(*, level: str = "info", form: LogFormat = "auto", stream: TextIO | None = None) -> None:
    """Send all logs of this process to `stream` (default: standard error)."""
    handler = _StandardError() if stream is None else logging.StreamHandler(stream)
    handler.setFormatter(_Formatter(as_json=form == "json" or (form == "auto" and not handler.stream.isatty())))
    handler.addFilter(OncePerMinute())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)  # other libraries
    logging.getLogger("ayaflow").setLevel(level.upper())
