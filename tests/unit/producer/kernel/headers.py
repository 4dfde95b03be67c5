"""Reads what the C headers of bpf/ declare: structs with the place of each member, enums, constants. No compiler."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

BPF = Path(__file__).parents[4] / "bpf"
SHARED = ("event.h", "replay.h")
"""Those that say what Python and the kernel program hand to each other."""
OF_THE_PROGRAM = {"coalesce.h", "hash.h", "inspect.h", "object.h", "parse.h", "tunnel.h"}


@dataclass(frozen=True, slots=True)
class Member:
    path: str  # as offsetof takes it
    offset: int
    octets: int


@dataclass(frozen=True, slots=True)
class Type:
    octets: int
    alignment: int
    members: tuple[Member, ...] = ()  # none of a scalar; of a union those of its first alternative


@dataclass(slots=True)
class Declared:
    """All that a header declares."""

    structs: dict[str, Type] = field(default_factory=dict)  # unions, too
    enums: dict[str, tuple[str, ...]] = field(default_factory=dict)
    constants: dict[str, int] = field(default_factory=dict)
    unions: set[str] = field(default_factory=set)


_SCALARS = {name: Type(octets, octets) for name, octets in (("u64", 8), ("u32", 4), ("u16", 2), ("u8", 1), ("char", 1))}


def shared_text() -> str:
    return "\n".join((BPF / name).read_text() for name in SHARED)


def declared(text: str, defined: Mapping[str, int]) -> Declared:
    """What a C text declares where these macros are defined. Raises ValueError for what it does not understand."""
    found = Declared()
    tokens = re.findall(r"\w+|\S", "\n".join(_preprocessed(text, defined, found)))
    at = 0
    while at < len(tokens):
        kind, name, brace = (*tokens[at : at + 3], "", "")[:3]
        if kind == "enum" and brace == "{":
            end = tokens.index("}", at)
            found.enums[name] = tuple(word for word in tokens[at + 3 : end] if word != ",")
            if not all(word.isidentifier() for word in found.enums[name]):
                raise ValueError(f"enum {name} has values of its own")
            at = end
        elif kind in {"struct", "union"} and brace == "{":
            found.structs[name], at = _body(tokens, at + 3, found, is_union=kind == "union")
            found.unions |= {name} if kind == "union" else set()
        else:
            at += 1
    return found


def _preprocessed(text: str, defined: Mapping[str, int], found: Declared) -> list[str]:
    """The lines that are compiled; constants go into `found`."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL).replace("\\\n", " ")
    known, lines, taken = dict(defined), list[str](), [True]
    for line in text.splitlines():
        words = line.split(maxsplit=2)
        directive = words[0] if words and words[0].startswith("#") else ""
        if directive in {"#if", "#ifdef", "#ifndef"}:
            value = words[1] in known if directive != "#if" else bool(known[words[1]])
            taken.append(value != (directive == "#ifndef"))
        elif directive == "#else":
            taken[-1] = not taken[-1]
        elif directive == "#endif":
            taken.pop()
        elif not all(taken):
            continue
        elif directive == "#define" and "(" not in words[1]:  # else it takes arguments
            known[words[1]] = 1
            if len(words) == 3:
                known[words[1]] = found.constants[words[1]] = _value(words[2], found.constants)
        elif not directive:
            lines.append(line)
    return lines


def _value(text: str, constants: Mapping[str, int]) -> int:
    plain = re.sub(r"\b(0x[0-9a-fA-F]+|\d+)[uUlL]+\b", r"\1", text)
    return int(eval(plain, {"__builtins__": {}}, dict(constants)))


def _body(tokens: list[str], at: int, found: Declared, *, is_union: bool) -> tuple[Type, int]:
    """The members from a brace on -> the type, and where its closing brace is."""
    members: list[Member] = []
    end, alignment = 0, 1
    while tokens[at] != "}":
        inner, names, at = _declaration(tokens, at, found)
        for name, count in names:
            begin = 0 if is_union else -(-end // inner.alignment) * inner.alignment
            if not (is_union and end):
                members += _placed(inner, name, begin, count)
            end, alignment = max(end, begin + inner.octets * count), max(alignment, inner.alignment)
    return Type(-(-end // alignment) * alignment, alignment, tuple(members)), at


def _declaration(tokens: list[str], at: int, found: Declared) -> tuple[Type, list[tuple[str, int]], int]:
    """One line of a struct: its type, names with their counts, and where the next one begins."""
    if tokens[at] in {"struct", "union"} and tokens[at + 1] == "{":
        inner, at = _body(tokens, at + 2, found, is_union=tokens[at] == "union")
        at += 1
        names = [("", 1)] if tokens[at] == ";" else []
    else:
        name = tokens[at]
        at += 1
        if name in {"struct", "union"}:
            name, at = tokens[at], at + 1
        kinds = _SCALARS | found.structs
        if name not in kinds:
            raise ValueError(f"{name} is no type of a fixed width")
        inner, names = kinds[name], []
    while tokens[at] != ";":
        name, count, at = tokens[at], 1, at + 1
        if tokens[at] == "[":
            end = tokens.index("]", at)
            count, at = _value(" ".join(tokens[at + 1 : end]), found.constants), end + 1
        names.append((name, count))
        at += tokens[at] == ","
    return inner, names, at + 1


def _placed(inner: Type, name: str, begin: int, count: int) -> list[Member]:
    if not inner.members:
        return [Member(name, begin, inner.octets * count)]
    if count != 1:
        raise ValueError(f"{name} is an array of structs")
    prefix = f"{name}." if name else ""
    return [Member(prefix + each.path, begin + each.offset, each.octets) for each in inner.members]
