"""The text of a condition, read before the engine sees it: its tokens, the values it mentions, and our bounds.

The grammar is that of CEL (cel-spec, "Syntax"). Only what the bounds and the *needs* of a condition ask for is read
here; whether it is well-formed and well-typed is the engine's to say. Reading tokens rather than the engine's tree errs
on the safe side: a path that stands anywhere in the text is needed, unless a ``has()`` of the same path stands in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_BYTES: Final = 4096
MAX_NESTING: Final = 32
"""Brackets within brackets. The engine's own parser recurses; 250 levels end it."""
MAX_COMPREHENSIONS: Final = 1
"""Comprehensions within comprehensions cost the product of their lists (cel-spec, "Macros")."""

GUARD: Final = "is."
"""``has(facts.a.b)`` is rewritten to the variable ``is.facts.a.b``, which is shorter, so that columns stay."""

_ROOTS: Final = frozenset({"facts", "request"})
_RESERVED: Final = frozenset({"is", "caller", "facts", "request", "now", "has"})
_ZONED: Final = frozenset(
    {
        "getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getHours", "getMinutes",
        "getSeconds", "getMilliseconds",
    }
)  # fmt: skip
COMPREHENSIONS: Final = frozenset({"all", "exists", "exists_one", "map", "filter", "existsOne", "transformList"})
_OPEN: Final = {"(": ")", "[": "]", "{": "}"}
_CLOSE: Final = frozenset(_OPEN.values())
_TOKEN = re.compile(
    r"""
    (?P<space>[\t\n\f\r ]+|//[^\n]*)
  | (?P<string>
        (?:[rR][bB]?|[bB][rR])(?:\"\"\".*?\"\"\"|\'\'\'.*?\'\'\'|"[^"\n]*"|'[^'\n]*')  # raw: a backslash is itself
      | [bB]?(?:\"\"\"(?:[^\\]|\\.)*?\"\"\"|\'\'\'(?:[^\\]|\\.)*?\'\'\'|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    )
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<number>(?:0[xX][0-9a-fA-F]+|[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)[uU]?)
  | (?P<mark>&&|\|\||[=!<>]=|[-+*/%!<>?:.,()\[\]{}])
    """,
    re.VERBOSE | re.DOTALL,
)


class ConditionError(ValueError):
    """A condition cannot be used. ``line`` and ``column`` count from 1, within its text."""

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column


class Token(NamedTuple):
    """A piece of a condition. ``kind`` is ``string``, ``name``, ``number`` or ``mark``; places are offsets."""

    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ConditionText:
    """What was read.

    Attributes:
        engine_text: What the engine compiles: of the same length, with every ``has()`` as the variable of its guard.
        needs: Paths that must be known.
        mentions: Those, and the ones that a ``has()`` guards.
        tokens: Everything but spaces and comments, of the text as written.
        time_zones: The literal time zones, each of which has to exist.
    """

    engine_text: str
    needs: frozenset[str]
    mentions: frozenset[str]
    tokens: tuple[Token, ...]
    time_zones: tuple[Token, ...]


def read_condition(text: str) -> ConditionText:
    """Return what ``text`` mentions.

    Raises:
        ConditionError: When it breaks a bound, or no token of CEL is found where one should be.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise ConditionError(f"a condition has at most {MAX_BYTES} bytes: name its parts under 'conditions'")
    tokens = tuple(_tokens(text))
    if not tokens:
        raise ConditionError("a condition is empty; leave it out, or write one")
    _check_nesting(text, tokens)
    _check_names(text, tokens)
    _check_patterns(text, tokens)
    guarded: set[str] = set()
    engine_text = text
    for first, last, path in _guards(text, tokens):
        start, end = tokens[first].start, tokens[last].end
        guarded.add(path)
        engine_text = engine_text[:start] + (GUARD + path).ljust(end - start) + engine_text[end:]
    mentions = frozenset(path for _, path in _paths(tokens))
    return ConditionText(engine_text, mentions - guarded, mentions, tokens, tuple(_time_zones(text, tokens)))


def error_at(text: str, offset: int, message: str) -> ConditionError:
    """Return an error at an offset into ``text``."""
    line = text.count("\n", 0, offset) + 1
    return ConditionError(message, line, offset - (text.rfind("\n", 0, offset) + 1) + 1)


def _tokens(text: str) -> Iterator[Token]:
    offset = 0
    while offset < len(text):
        found = _TOKEN.match(text, offset)
        if found is None:
            raise error_at(text, offset, f"{text[offset]!r} is not part of CEL, or begins a text that does not end")
        if found.lastgroup != "space":
            yield Token(str(found.lastgroup), found.group(), offset, found.end())
        offset = found.end()


def _check_nesting(text: str, tokens: Sequence[Token]) -> None:
    closing: list[tuple[str, bool]] = []  # the bracket that is waited for, and whether it ends a comprehension
    for position, token in enumerate(tokens):
        if token.kind == "mark" and token.text in _OPEN:
            closing.append((_OPEN[token.text], _begins_comprehension(tokens, position)))
            if len(closing) > MAX_NESTING:
                raise error_at(text, token.start, f"brackets are nested more than {MAX_NESTING} deep")
            if sum(is_comprehension for _, is_comprehension in closing) > MAX_COMPREHENSIONS:
                raise error_at(text, token.start, "a comprehension cannot stand in another one")
        elif token.kind == "mark" and token.text in _CLOSE and (not closing or closing.pop()[0] != token.text):
            raise error_at(text, token.start, f"{token.text!r} closes nothing")
    if closing:
        raise error_at(text, tokens[-1].start, f"{closing[-1][0]!r} is missing at the end")


def _begins_comprehension(tokens: Sequence[Token], position: int) -> bool:
    return position > 1 and tokens[position - 1].text in COMPREHENSIONS and tokens[position - 2].text == "."


def _check_names(text: str, tokens: Sequence[Token]) -> None:
    for position, token in enumerate(tokens):
        if token.kind != "name" or (position and tokens[position - 1].text == "."):
            continue
        if token.text == "is":
            raise error_at(text, token.start, "undeclared reference to 'is'")
        # A comprehension that names its variable like one of ours would hide what a path means.
        if token.text in _RESERVED and position > 1 and _begins_comprehension(tokens, position - 1):
            raise error_at(text, token.start, f"{token.text!r} cannot name the variable of a comprehension")


def _check_patterns(text: str, tokens: Sequence[Token]) -> None:
    """A pattern from outside could be as expensive as its author likes, and a fact is no place for policy."""
    for position, token in enumerate(tokens):
        if token.kind == "name" and token.text == "matches" and _next(tokens, position) == "(":
            inside = tokens[position + 2 :]
            arguments = inside[: _closing(inside)]
            last = [argument for argument in arguments if argument.text != ")"][-1:]
            literal = len(arguments) == 1 or (len(arguments) > 1 and arguments[-2].text == ",")
            if not literal or last[0].kind != "string":
                raise error_at(text, token.start, "matches() takes its pattern as a literal text")


def _time_zones(text: str, tokens: Sequence[Token]) -> Iterator[Token]:
    """Yield the arguments of ``getHours`` and its like: literals, for an unknown zone would only show at run time."""
    for position, token in enumerate(tokens):
        if token.text not in _ZONED or _next(tokens, position) != "(" or _next(tokens, position + 1) in {"", ")"}:
            continue
        argument = tokens[position + 2]
        if argument.kind != "string" or _next(tokens, position + 2) != ")":
            raise error_at(text, argument.start, f"{token.text}() takes its time zone as a literal text")
        yield argument


def _closing(tokens: Sequence[Token]) -> int:
    """Return where the bracket closes that stands open before ``tokens``; that all do was checked."""
    depth, position = 1, -1
    while depth:
        position += 1
        if tokens[position].kind == "mark":
            depth += (tokens[position].text in _OPEN) - (tokens[position].text in _CLOSE)
    return position


def _paths(tokens: Sequence[Token]) -> Iterator[tuple[int, str]]:
    """Yield each ``facts.…`` and ``request.…`` as it stands, with the position of its last token."""
    for position, token in enumerate(tokens):
        if token.kind != "name" or token.text not in _ROOTS:
            continue
        if position > 1 and tokens[position - 1].text == "." and tokens[position - 2].kind != "mark":
            continue  # a field of another variable; of anything else, it counts as ours, to be safe
        end, path = position, token.text
        while _next(tokens, end) == "." and end + 2 < len(tokens) and tokens[end + 2].kind == "name":
            if _next(tokens, end + 2) == "(":
                break  # a method of the value
            end += 2
            path += f".{tokens[end].text}"
        yield end, path


def _guards(text: str, tokens: Sequence[Token]) -> Iterator[tuple[int, int, str]]:
    ends = dict(_paths(tokens))
    for position, token in enumerate(tokens):
        if token.text != "has" or token.kind != "name" or _next(tokens, position) != "(":
            continue
        if position and tokens[position - 1].text == ".":
            continue
        last = position + 1 + _closing(tokens[position + 2 :]) + 1
        path = ends.get(last - 1, "")
        if not path or "".join(inner.text for inner in tokens[position + 2 : last]) != path:
            raise error_at(text, token.start, "has() takes one path of facts or request, as in has(facts.risk.score)")
        yield position, last, path


def _next(tokens: Sequence[Token], position: int) -> str:
    return tokens[position + 1].text if position + 1 < len(tokens) else ""
