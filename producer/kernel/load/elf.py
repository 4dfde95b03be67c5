"""Reads an object that clang made of the kernel program: its maps, its programs, and where these need a value. Pure.

ELF-64, little-endian. Maps are described in the section `maps` (bpf/object.h), programs are functions of the section
`tc`. An instruction that loads a 64-bit constant and has a relocation gets a map's descriptor, or one of our numbers.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from common.errors import DecodeError

_SYMTAB, _REL = 2, 9  # types of sections
_FUNCTION = 2  # type of a symbol
_R_BPF_64_64 = 1  # a 64-bit constant
_LOAD_CONSTANT = 0x18
_MAP_FD = 1  # of the source register: the constant is a map's descriptor
_MAP = struct.Struct("<IIII24s24s")
_SECTION, _SYMBOL, _RELOCATION = struct.Struct("<IIQQQQIIQQ"), struct.Struct("<IBBHQQ"), struct.Struct("<QQ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """What a map is to be."""

    name: str
    kind: str  # of bpfsys.MAP_TYPES
    key_bytes: int
    value_bytes: int
    entries: int  # 0: the loader says
    flags: int
    inner: str  # of an array of maps: the name of one as they are to be


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Instructions, and the places in them that need a value."""

    name: str
    code: bytes
    places: dict[int, str]  # offset of an instruction -> a map's or a number's name

    def linked(self, maps: Mapping[str, int], numbers: Mapping[str, int]) -> bytes:
        """The instructions with descriptors of maps, and numbers of at most 31 bits. Raises DecodeError."""
        code = bytearray(self.code)
        for offset, name in self.places.items():
            if name not in maps and name not in numbers:
                raise DecodeError(f"the program {self.name} wants {name!r}, which nobody has")
            if name in maps:
                code[offset + 1] = code[offset + 1] & 0x0F | _MAP_FD << 4
            struct.pack_into("<i", code, offset + 4, maps[name] if name in maps else numbers[name])
        return bytes(code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """An object."""

    stamp: str  # of the sources that it was compiled from
    maps: tuple[Map, ...]  # each behind the one that it has as inner
    programs: dict[str, Program]


def read(octets: bytes) -> Object:
    """Raises DecodeError."""
    try:
        return _Reader(octets).object()
    except (struct.error, ValueError, IndexError, KeyError) as error:
        raise DecodeError(f"damaged, or no object of ours ({error})") from error


class _Reader:
    def __init__(self, octets: bytes) -> None:
        if octets[:6] != b"\x7fELF\2\1":
            raise DecodeError("no little-endian ELF file of 64 bits")
        self._octets = octets
        (at,) = struct.unpack_from("<Q", octets, 40)
        size, count, names = struct.unpack_from("<HHH", octets, 58)
        self._sections = [_SECTION.unpack_from(octets, at + number * size) for number in range(count)]
        self._numbers = {self._text(self._sections[names][4] + each[0]): n for n, each in enumerate(self._sections)}
        self._symbols = list(self._read_symbols())

    def object(self) -> Object:
        maps = [
            self._map(name, value)
            for name, _, section, value, _ in self._symbols
            if section == self._numbers["maps"] and name.endswith("_map")
        ]
        return Object(
            stamp=self._body(self._numbers["stamp"]).rstrip(b"\0").decode(),
            maps=tuple(sorted(maps, key=lambda each: bool(each.inner))),
            programs={each.name: each for each in self._programs()},
        )

    def _body(self, number: int) -> bytes:
        offset, size = self._sections[number][4:6]
        return self._octets[offset : offset + size]

    def _text(self, offset: int) -> str:
        return self._octets[offset : self._octets.index(0, offset)].decode()

    def _read_symbols(self) -> Iterator[tuple[str, int, int, int, int]]:
        """Name, type, section, value, size of each."""
        table = next(each for each in self._sections if each[1] == _SYMTAB)
        names = self._sections[table[6]][4]
        for offset in range(table[4], table[4] + table[5], _SYMBOL.size):
            name, info, _, section, value, size = _SYMBOL.unpack_from(self._octets, offset)
            yield self._text(names + name), info & 15, section, value, size

    def _map(self, name: str, offset: int) -> Map:
        key, value, entries, flags, kind, inner = _MAP.unpack_from(self._body(self._numbers["maps"]), offset)
        kind_text, inner_text = (text.split(b"\0", 1)[0].decode() for text in (kind, inner))
        return Map(
            name=name.removesuffix("_map"),
            kind=kind_text,
            key_bytes=key,
            value_bytes=value,
            entries=entries,
            flags=flags,
            inner=inner_text,
        )

    def _programs(self) -> Iterator[Program]:
        number = self._numbers["tc"]
        body, places = self._body(number), dict(self._relocations(number))
        for name, kind, section, value, size in self._symbols:
            if section == number and kind == _FUNCTION:
                own = {offset - value: wanted for offset, wanted in places.items() if value <= offset < value + size}
                yield Program(name=name, code=body[value : value + size], places=own)

    def _relocations(self, number: int) -> Iterator[tuple[int, str]]:
        """Where a section wants what."""
        for each in self._sections:
            if each[1] != _REL or each[7] != number:
                continue
            for offset in range(each[4], each[4] + each[5], _RELOCATION.size):
                place, info = _RELOCATION.unpack_from(self._octets, offset)
                name = self._symbols[info >> 32][0]
                if info & 0xFFFFFFFF != _R_BPF_64_64 or self._body(number)[place] != _LOAD_CONSTANT:
                    raise DecodeError(
                        f"{name or 'a function'} was not inlined, or lies where the program cannot reach it"
                    )
                yield place, name.removesuffix("_map")
