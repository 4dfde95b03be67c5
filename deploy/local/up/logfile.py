"""A stage's log: everything that its process writes, with a bound on its size."""

import json
import re
import shutil
from pathlib import Path
from typing import BinaryIO

from common.errors import EnvironmentProblem

MOST_BYTES = 10 << 20


class LogFile:
    """`NAME.log`, and the one before it as `NAME.log.1`."""

    def __init__(self, path: Path, most_bytes: int = MOST_BYTES) -> None:
        self._path = path
        self._most = most_bytes
        self._began = 0  # offset of what the newest process wrote
        self._opened = False

    def open(self) -> BinaryIO:
        """For a new process to append to; the first time, what is there is moved aside. Raises EnvironmentProblem."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if not self._opened and self._path.exists():
                self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._opened = True
            file = self._path.open("ab")
        except OSError as error:
            advice = "Make room, or set data_dir"
            raise EnvironmentProblem(f"cannot write {self._path}: {error.strerror}. {advice}") from error
        self._began = self._path.stat().st_size
        return file

    def check(self) -> None:
        """Copy away and empty a file that has grown too large; the process goes on appending to it."""
        try:
            if self._path.stat().st_size <= self._most:
                return
            shutil.copyfile(self._path, self._path.with_name(self._path.name + ".1"))
            with self._path.open("r+b") as file:
                file.truncate(0)
        except OSError:
            return  # a full disk: the stage that needs it will say so
        self._began = 0

    def last_words(self) -> str:
        """The last error that the newest process wrote, as a sentence; empty when it wrote none."""
        try:
            with self._path.open("rb") as file:
                size = self._path.stat().st_size
                file.seek(max(min(self._began, size), size - 65_536))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return next((words for line in reversed(lines) if (words := _error_in(line.strip()))), "")


def _error_in(line: str) -> str:
    if line.startswith("ayaflow: error: "):
        return line.removeprefix("ayaflow: error: ")
    if line.startswith("{"):
        try:
            record = json.loads(line)
        except ValueError:
            return ""
        if isinstance(record, dict) and record.get("level") == "error":
            return f"{record.get('action')}: {record.get('error') or record.get('reason') or ''}".rstrip(": ")
        return ""
    return line[:500] if re.match(r"[A-Za-z_.]*(Error|Exception)\b", line) else ""
