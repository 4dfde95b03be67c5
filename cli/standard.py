"""Standard input, output and error as a command may find them: closed, full, in the encoding of another time."""

import codecs
import errno
import io
import locale
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO, TypeVar, cast

import click

from common.errors import EnvironmentProblem
from common.plain import plain_lines

T = TypeVar("T")

_INPUT, _OUTPUT, _ERROR = range(3)
_NAMES = ("standard input", "standard output", "standard error")


def prepare() -> None:
    """Make them what all commands may rely on. Once, before anything is read or written; may start Python anew.

    There are three, and no file that is opened later takes the place of one that is closed. Arguments, names of files,
    and text that is no terminal's are UTF-8. What cannot be read or written is an EnvironmentProblem.
    """
    if not sys.flags.utf8_mode and _name(sys.getfilesystemencoding()) != "utf-8":
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606  our own
    for number in (_INPUT, _OUTPUT, _ERROR):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file that is opened takes its number. This one refuses what it is for
            os.open(os.devnull, os.O_RDONLY if number == _OUTPUT else os.O_WRONLY)
    sys.stdin = _text(_INPUT, "strict")
    sys.stdout = _text(_OUTPUT, "backslashreplace")
    sys.stderr = _text(_ERROR, "backslashreplace")


def say(sentence: str) -> None:
    """To whoever watches, on standard error. Not more than its own line's ends gets to a terminal."""
    click.echo(plain_lines(sentence), err=True)


def check_input() -> None:
    """That standard input can be read. Raises EnvironmentProblem."""
    _tried(lambda: os.read(sys.stdin.fileno(), 0), _INPUT, "read")


def check_output() -> None:
    """That standard output is not closed. Raises EnvironmentProblem."""
    _tried(lambda: os.write(sys.stdout.fileno(), b""), _OUTPUT, "write")


def leave() -> None:
    """What could not be written goes nowhere: Python would try it again at its exit."""
    try:
        sys.stdout.flush()
    except (EnvironmentProblem, OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _text(number: int, errors: str) -> TextIO:
    raw = _Raw(number)
    # a terminal of an old 8-bit encoding would take parts of UTF-8 for controls; that of the C locale has UTF-8, mostly
    own = locale.getencoding() if raw.isatty() else "utf-8"
    encoding = "utf-8" if _name(own) == "ascii" else own
    buffer = io.BufferedReader(raw) if number == _INPUT else io.BufferedWriter(raw)
    lines = number == _ERROR or raw.isatty()
    return io.TextIOWrapper(cast("Any", buffer), encoding=encoding, errors=errors, line_buffering=lines)


def _name(encoding: str) -> str:
    return codecs.lookup(encoding).name


class _Raw(io.FileIO):
    """Says in a sentence what is wrong with it; standard error, of which nobody can be told, drops it."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "rb" if number == _INPUT else "wb", closefd=False)
        self._number = number

    def readinto(self, buffer: Any) -> int | None:
        return _tried(lambda: super(_Raw, self).readinto(buffer), self._number, "read")

    def readall(self) -> bytes:
        return _tried(super().readall, self._number, "read") or b""

    def write(self, data: Any) -> int:
        try:
            return _tried(lambda: super(_Raw, self).write(data), self._number, "write") or 0
        except (EnvironmentProblem, BrokenPipeError):
            if self._number != _ERROR:
                raise
            return len(data)


def _tried(transfer: Callable[[], T], number: int, verb: str) -> T:
    try:
        return transfer()
    except BrokenPipeError:
        raise
    except OSError as error:
        why = "it is closed" if error.errno == errno.EBADF else error.strerror
        raise EnvironmentProblem(f"cannot {verb} {_NAMES[number]}: {why}") from error
