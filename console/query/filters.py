"""Flow filters: text to a tree of comparisons. Pure. docs/filters.md is the language for readers.

`filter_sql` turns the tree into SQL, `filter_match` tests one flow. Errors name the column and the nearest word
that would be right.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn

from lark import Lark, Token, UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from console.query import values as filter_values
from console.query.errors import FilterError, nearest
from console.query.values import Span, Value
from console.query.vocabulary import ALIASES, FIELDS, Field
from schemas.fields import Kind

MOST_CHARACTERS = 8_000
MOST_DEPTH = 60  # of `and`, `or` and `not` within each other
_OF_HOSTS = "; addr is an address, domain a name that clients asked for"
_OTHER_WORDS = dict.fromkeys(("host", "src_host", "dst_host", "hostname", "name"), _OF_HOSTS)  # as elsewhere
_ORDERED = ("<", "<=", ">", ">=")

GRAMMAR = r"""
start: [either]
either: both (_OR both)*
both: one (_AND one)*
?one: _NOT one                          -> negated
    | "(" either ")"
    | FIELD SIGN value                  -> compared
    | FIELD IN (value | list)           -> listed
    | FIELD _NOT IN (value | list)    -> not_listed
list: "(" value ("," value)* ")"
value: WORD | QUOTED

FIELD: /[^\s"'=!<>(),~]+/
WORD: /[^\s"'=!<>(),~]+/
QUOTED: /"[^"]*"|'[^']*'/
SIGN.2: /==|!=|<>|<=|>=|!~|=|<|>|~/
IN.2: /in(?![^\s"'=!<>(),~])/i
_AND.2: /and(?![^\s"'=!<>(),~])/i
_OR.2: /or(?![^\s"'=!<>(),~])/i
_NOT.2: /not(?![^\s"'=!<>(),~])/i
%ignore /\s+/
"""
_KEYWORDS = {"_AND": "'and'", "_OR": "'or'", "RPAR": "')'", "COMMA": "','", "$END": "the end of the filter"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """`field operator value`; `in` has any number of values and holds when one fits, the others have one."""

    field: Field
    operator: str  # = != < <= > >= ~ in
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Not:
    """Holds when the part does not."""

    part: "Expression"


@dataclass(frozen=True, slots=True, kw_only=True)
class Every:
    """All parts hold (`and`)."""

    parts: "tuple[Expression, ...]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Some:
    """One part holds (`or`)."""

    parts: "tuple[Expression, ...]"


Expression = Comparison | Not | Every | Some


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A whole filter; None matches everything."""

    expression: Expression | None

    def fields(self) -> dict[str, Field]:
        """The fields that it uses, by name."""
        found: dict[str, Field] = {}
        todo = [self.expression] if self.expression else []
        while todo:
            match todo.pop():
                case Comparison(field=field):
                    found[field.name] = field
                case Not(part=part):
                    todo.append(part)
                case Every(parts=parts) | Some(parts=parts):
                    todo.extend(parts)
        return found

    def one_value(self, name: str) -> bool:
        """Whether it matches only where a field is one value, and asks for it nowhere else."""
        expression = self.expression
        parts = expression.parts if isinstance(expression, Every) else (expression,)
        asking = [part for part in parts if part is not None and name in Filter(expression=part).fields()]
        match asking:
            case [Comparison(operator="=" | "in", values=(value,))]:
                return not isinstance(value, Span) or value.first == value.last
        return False

    def and_also(self, other: "Filter") -> "Filter":
        """Both."""
        parts = tuple(one.expression for one in (self, other) if one.expression is not None)
        return Filter(expression=Every(parts=parts) if len(parts) > 1 else parts[0] if parts else None)


def parse(text: str) -> Filter:
    """A filter; an empty text matches everything. Raises FilterError that names the column."""
    if len(text) > MOST_CHARACTERS:
        raise FilterError(
            "the filter", text="", column=1, why=f"has {len(text)} characters; {MOST_CHARACTERS} are the most"
        )
    try:
        tree = _parser().parse(text)
    except UnexpectedToken as error:
        _explain_token(text, error)
    except UnexpectedCharacters as error:
        at = error.pos_in_stream or 0
        raise FilterError(repr(text[at]), text=text, column=at + 1, why="is not understood here") from None
    except UnexpectedInput as error:
        raise FilterError("the filter", text=text, column=len(text.rstrip()) + 1, why="ends too early") from error
    expression = _build(tree.children[0], text, 0) if tree.children and tree.children[0] is not None else None
    return Filter(expression=expression)


def of_node(node: str) -> Filter:
    """The flows of one node; of all when it is empty."""
    field = FIELDS["node"]
    return Filter(expression=Comparison(field=field, operator="=", values=(node,)) if node else None)


@cache
def _parser() -> Lark:
    return Lark(GRAMMAR, parser="lalr", lexer="contextual", maybe_placeholders=True)


def _build(tree: Any, text: str, depth: int) -> Expression:
    if depth > MOST_DEPTH:
        raise FilterError("the filter", text=text, column=1, why=f"is nested more than {MOST_DEPTH} deep")
    while tree.data in {"either", "both"} and len(tree.children) == 1:
        tree = tree.children[0]
    children = tree.children
    match tree.data:
        case "either" | "both":
            parts = tuple(_build(child, text, depth + 1) for child in children)
            return Some(parts=parts) if tree.data == "either" else Every(parts=parts)
        case "negated":
            return Not(part=_build(children[0], text, depth + 1))
        case "compared":
            return _compared(text, *children)
    comparison = _listed(text, children[0], children[1], children[2])
    return Not(part=comparison) if tree.data == "not_listed" else comparison


def _compared(text: str, name: Token, sign: Token, value: Any) -> Expression:
    field = _field(text, name)
    operator = {"==": "=", "<>": "!="}.get(sign, str(sign))
    if operator not in field.operators:
        allowed = " ".join(field.operators)
        no_order = f"{field.name} has no order; " if operator in _ORDERED else ""
        why = f"{no_order}use {allowed} with {field.name}"
        _fail(text, sign, why)
    if operator in {"~", "!~"}:
        comparison = Comparison(
            field=field, operator="~", values=(filter_values.pattern(field, text, value.children[0]),)
        )
        return Not(part=comparison) if operator == "!~" else comparison
    return Comparison(field=field, operator=operator, values=(_value(field, text, value),))


def _listed(text: str, name: Token, _in: Token, values: Any) -> Comparison:
    field = _field(text, name)
    found = values.children if values.data == "list" else [values]
    return Comparison(
        field=field,
        operator="in",
        values=tuple(filter_values.value(field, text, one.children[0], ranges=True) for one in found),
    )


def _value(field: Field, text: str, value: Any) -> Value:
    return filter_values.value(field, text, value.children[0], ranges=field.kind is Kind.ADDRESS)


def _field(text: str, token: Token) -> Field:
    name = token.lower()
    field = FIELDS.get(ALIASES.get(name, name))
    if field is None:
        near = _OTHER_WORDS.get(name) or nearest(name, [*FIELDS, *ALIASES])
        _fail(text, token, f"expected a field{near}")
    return field


def _explain_token(text: str, error: UnexpectedToken) -> NoReturn:
    """What was expected instead, in words; a field that is not known comes first."""
    token = error.token
    state = error.interactive_parser.parser_state if error.interactive_parser else None
    for before in state.value_stack if state else ():
        if isinstance(before, Token) and before.type == "FIELD":
            _field(text, before)
    expected = set(error.accepts or error.expected)
    if "FIELD" in expected:
        why = f"expected a field{nearest(str(token), list(FIELDS))}"
    elif "SIGN" in expected:
        why = "expected one of = != < <= > >= ~ !~ in after a field"
    elif expected == {"IN"}:
        why = "expected 'in' after 'not'"
    elif "WORD" in expected:
        why = "expected a value"
    else:
        if "COMMA" not in expected:  # the parser may have closed the comparison already
            expected |= {"_AND", "_OR"}
        words = [_KEYWORDS[name] for name in ("COMMA", "_AND", "_OR", "RPAR", "$END") if name in expected]
        why = "expected " + " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
    _fail(text, token, why)


def _fail(text: str, token: Token, why: str) -> NoReturn:
    filter_values.fail(text, token, why)
