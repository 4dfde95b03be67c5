"""Rows of windows in a file that has no name: for a replay with more flows than memory should hold."""

import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from common.errors import EnvironmentProblem
from streams.windowing.rows import Rows
from streams.windowing.tunnels import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    name: str
    dtype: np.dtype[Any]
    offset: int  # in the file
    count: int


Place = tuple[_Column, ...]
"""Where rows lie, or what is known of their numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the numbers in rows stand for."""

    tunnels: Table


T = TypeVar("T", Rows, Known)


class Spill:
    """A temporary file; it is made when it is first written to, and goes with the process."""

    def __init__(self, directory: Path | None = None) -> None:
        """`directory`: the system's own for temporary files unless given."""
        self._directory = directory
        self._file: Any = None

    def write(self, rows: Rows | Known) -> Place:
        """Put rows away, or what their numbers stand for. Raises EnvironmentProblem when the disk is full."""
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._directory, prefix="ayaflow-")  # noqa: SIM115  see close
            place = []
            for column in fields(rows):
                values = np.ascontiguousarray(getattr(rows, column.name))
                place.append(_Column(name=column.name, dtype=values.dtype, offset=self._file.tell(), count=len(values)))
                self._file.write(values.view(np.uint8).data)
        except OSError as error:
            raise EnvironmentProblem(
                f"cannot put flows into a temporary file: {error.strerror}; set TMPDIR to a folder with room"
            ) from error
        return tuple(place)

    def read(self, place: Place, kind: type[T]) -> T:
        """Get back what was written, of its kind."""
        columns = {}
        for column in place:
            self._file.seek(column.offset)
            octets = self._file.read(column.count * column.dtype.itemsize)
            columns[column.name] = np.frombuffer(octets, column.dtype)
        self._file.seek(0, 2)
        return kind(**columns)

    def close(self) -> None:
        """Give the space back."""
        if self._file is not None:
            self._file.close()
            self._file = None
