"""The sub-expressions of a condition, for people who ask why it came out as it did.

A small reader of CEL's precedence (cel-spec, "Syntax") over the tokens of :mod:`issuer.core.condition_text`. It finds
where operands begin and end; it decides nothing, and what it does not understand it leaves whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from issuer.core.condition_text import read_condition

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from issuer.core.condition_text import Token

MAX_PARTS: Final = 64

_LEVELS: Final = (
    frozenset({"?", ":"}),
    frozenset({"||"}),
    frozenset({"&&"}),
    frozenset({"==", "!=", "<", "<=", ">", ">=", "in"}),
    frozenset({"+", "-"}),
    frozenset({"*", "/", "%"}),
)
_OPEN: Final = frozenset("([{")
_CLOSE: Final = frozenset(")]}")


def parts_of(text: str) -> tuple[str, ...]:
    """Return the sub-expressions of a condition that compiled: outer before inner, each once, at most 64.

    Literals are left out, and so is the inside of calls: what a comprehension does with each item has no value alone.
    """
    tokens = read_condition(text).tokens
    found: dict[str, None] = {}
    for first, last in _spans(tokens, 0, len(tokens)):
        if any(token.kind == "name" for token in tokens[first:last]):
            found[text[tokens[first].start : tokens[last - 1].end]] = None
        if len(found) == MAX_PARTS:
            break
    return tuple(found)


def _spans(tokens: Sequence[Token], first: int, last: int) -> Iterator[tuple[int, int]]:
    yield first, last
    for level in _LEVELS:
        operands = list(_operands(tokens, first, last, level))
        if len(operands) > 1:
            for operand in operands:
                yield from _spans(tokens, *operand)
            return
    if tokens[first].text in {"!", "-"} and last - first > 1:
        yield from _spans(tokens, first + 1, last)
    elif tokens[first].text == "(" and _closes(tokens, first) == last - 1:
        yield from _spans(tokens, first + 1, last - 1)


def _operands(tokens: Sequence[Token], first: int, last: int, level: frozenset[str]) -> Iterator[tuple[int, int]]:
    """Yield what stands between the operators of one level, outside of brackets."""
    depth, begin = 0, first
    for position in range(first, last):
        text = tokens[position].text if tokens[position].kind in {"mark", "name"} else ""
        depth += (text in _OPEN and len(text) == 1) - (text in _CLOSE and len(text) == 1)
        if depth == 0 and text in level and position > begin:
            yield begin, position
            begin = position + 1
    yield begin, last


def _closes(tokens: Sequence[Token], first: int) -> int:
    depth, position = 1, first
    while depth:
        position += 1
        if tokens[position].kind == "mark":
            depth += (tokens[position].text in _OPEN) - (tokens[position].text in _CLOSE)
    return position
