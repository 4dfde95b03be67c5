"""The program that is attached to one interface in one direction: it says which slot that is, and goes on in the run's.

A few instructions, written here, so that a new interface needs no compiler. It changes nothing of the packet, also not
what of its buffer other programs may use (`tc_classid`, `cb`): the slot goes through a per-CPU map of the run.

What is ours is told by the program's name, `ayaflow_iSLOT` or `ayaflow_eSLOT`, and by a map that it keeps, in which
node and run are written. So it can be found by anyone, after any kind of death.
"""

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from producer.kernel import bpfsys, tcx
from producer.kernel.bpfsys import closing
from producer.kernel.pins import PROGRAMS

PREFIX = "ayaflow_"
_LABEL = "ayaflow_label"
_LABEL_BYTES = 256
_LOOKUP, _TAIL_CALL = 1, 12  # helpers
_NEXT = -1  # TC_ACT_UNSPEC, TCX_NEXT
_OUT = object()  # a jump to the end


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """Whose an entry program is."""

    node: str
    run: str


class Entries:
    """Makes the entry programs of a run. A context manager."""

    def __init__(self, *, entered: int, programs: int, label: Label) -> None:
        """`entered`, `programs`: descriptors of the run's maps, ours to close. Raises OSError."""
        self._entered, self._programs = entered, programs
        self._label = bpfsys.map_create(_LABEL, _LABEL_BYTES, 1)
        octets = f"{label.node}@{label.run}".encode()[:_LABEL_BYTES].ljust(_LABEL_BYTES, b"\0")
        bpfsys.map_update(self._label, bytes(4), octets)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in (self._entered, self._programs, self._label):
            os.close(fd)

    def load(self, slot: int, direction: int, *, marks: int | None = None, minds: int | None = None) -> int:
        """Load one -> its descriptor, for the caller to close. Raises OSError.

        `marks`, `minds`: `passed` of two that a packet passes one after the other, and that count it once: the first
        one marks that it was there, the second one lets the packet pass and takes the mark away.
        """
        code = [_move(6, 1)]
        if marks is not None:
            code += [*_find(marks, direction), _store(1)]
        if minds is not None:
            code += [*_find(minds, direction), _load_word(1), _jump_if_zero(1, 2), _store(0), _jump(_OUT)]
        code += [*_find(self._entered, 0), _store(slot)]
        code += [_move(1, 6), *_map(2, self._programs), _set(3, direction), _call(_TAIL_CALL)]
        code += [_set(0, _NEXT), _instruction(0x95)]
        program = bpfsys.prog_load(name_of(slot, direction), _assembled(code))
        try:
            bpfsys.prog_bind_map(program, self._label)
        except OSError:
            os.close(program)
            raise
        return program


def open_entries(directory: Path, label: Label) -> Entries:
    """Of the run that is pinned in the node's folder. Raises OSError."""
    entered = bpfsys.obj_get(directory / "entered")
    return Entries(entered=entered, programs=bpfsys.obj_get(directory / "programs"), label=label)


def passed() -> int:
    """A map for one interface that is moved from filters to TCX, for `load` -> its descriptor. Raises OSError."""
    return bpfsys.map_create("ayaflow_passed", 4, len(PROGRAMS), kind="percpu_array")


def name_of(slot: int, direction: int) -> str:
    """The name of an entry program."""
    return f"{PREFIX}{PROGRAMS[direction][0]}{slot}"


def name_and_label(program: int) -> tuple[str, Label | None]:
    """The name of the program of this id, and whose entry program it is; None: not one of ours. Raises OSError."""
    with closing(tcx.prog_by_id(program)) as fd:
        name, maps = tcx.prog_name_and_maps(fd)
    if name.startswith(PREFIX):
        for each in maps:
            if label := _label_in(each):
                return name, label
    return name, None


def _label_in(number: int) -> Label | None:
    with closing(tcx.map_by_id(number)) as fd:
        if tcx.map_name_and_size(fd) != (_LABEL, _LABEL_BYTES):
            return None
        octets = bpfsys.map_lookup(fd, bytes(4), _LABEL_BYTES)
    node, _, run = octets.rstrip(b"\0").decode("utf-8", "replace").rpartition("@")
    return Label(node=node, run=run)


_Instruction = tuple[int, int, int, object, int]


def _instruction(code: int, to: int = 0, of: int = 0, offset: object = 0, value: int = 0) -> _Instruction:
    return code, to, of, offset, value


def _move(to: int, of: int) -> _Instruction:
    return _instruction(0xBF, to, of)


def _set(to: int, value: int) -> _Instruction:
    return _instruction(0xB7, to, value=value)


def _call(helper: int) -> _Instruction:
    return _instruction(0x85, value=helper)


def _jump(offset: object) -> _Instruction:
    return _instruction(0x05, offset=offset)


def _jump_if_zero(register: int, offset: object) -> _Instruction:
    return _instruction(0x15, register, offset=offset)


def _map(to: int, fd: int) -> list[_Instruction]:
    return [_instruction(0x18, to, 1, value=fd), _instruction(0)]


def _find(map_fd: int, key: int) -> list[_Instruction]:
    """r0: the entry of a map."""
    return [
        _instruction(0x62, 10, offset=-4, value=key),
        _move(2, 10),
        _instruction(0x07, 2, value=-4),
        *_map(1, map_fd),
        _call(_LOOKUP),
        _jump_if_zero(0, _OUT),
    ]


def _store(value: int) -> _Instruction:
    """Into the word that r0 points to."""
    return _instruction(0x62, 0, value=value)


def _load_word(to: int) -> _Instruction:
    """The word that r0 points to."""
    return _instruction(0x61, to, 0)


def _assembled(code: list[_Instruction]) -> bytes:
    end = len(code) - 2  # the last two set what is returned, and return
    octets = b""
    for at, (operation, to, of, offset, value) in enumerate(code):
        jump = end - at - 1 if offset is _OUT else offset
        octets += struct.pack("=BBhi", operation, of << 4 | to, jump, value)
    return octets
