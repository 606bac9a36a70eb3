"""The sub-expressions of a condition, for people who ask why it came out as it did.

A small reader of CEL's precedence (cel-spec, "Syntax") over the tokens of :mod:`issuer.core.condition_text`. It finds
where operands begin and end; it decides nothing, and what it does not understand it leaves whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from issuer.core.condition_text import COMPREHENSIONS, read_condition

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
_COMMA: Final = frozenset({","})
_UNARY: Final = frozenset({"!", "-"})
_OPEN: Final = frozenset({"(", "[", "{"})
_CLOSE: Final = frozenset({")", "]", "}"})
_WHOLE: Final = COMPREHENSIONS | {"has"}
"""Calls whose arguments mean nothing alone: the variable of a comprehension, the path of ``has()``."""


def parts_of(text: str) -> tuple[str, ...]:
    """Return the sub-expressions of a condition that compiled: outer before inner, each once, at most 64.

    Literals are left out, and so is the inside of comprehensions: what they do with each item has no value alone.
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
    """Yield an expression and what is in it. Goes as deep as brackets do, times the levels: the lexer bounds both."""
    yield first, last
    for level in _LEVELS:
        operands = list(_operands(tokens, first, last, level))
        if len(operands) > 1:
            for operand in operands:
                yield from _spans(tokens, *operand)
            return
    signs_end = first
    while tokens[signs_end].text in _UNARY:
        signs_end += 1
    if signs_end > first:
        yield from _spans(tokens, signs_end, last)
    else:
        yield from _in_member(tokens, first, last)


def _operands(tokens: Sequence[Token], first: int, last: int, level: frozenset[str]) -> Iterator[tuple[int, int]]:
    """Yield what stands between the operators of one level, outside of brackets."""
    depth, begin = 0, first
    for position in range(first, last):
        token = tokens[position]
        if token.kind == "mark":
            depth += (token.text in _OPEN) - (token.text in _CLOSE)
        if depth == 0 and token.kind != "string" and token.text in level and _ends_operand(tokens, begin, position):
            yield begin, position
            begin = position + 1
    yield begin, last


def _ends_operand(tokens: Sequence[Token], begin: int, position: int) -> bool:
    """Return whether an operator at ``position`` has a left side; else it is a sign, as in ``a * -b``."""
    if position == begin:
        return False
    before = tokens[position - 1]
    return before.kind != "mark" or before.text in _CLOSE


def _in_member(tokens: Sequence[Token], first: int, last: int) -> Iterator[tuple[int, int]]:
    """Yield what is in a primary with its fields, calls and indices: receivers, arguments, elements."""
    position = first
    while position < last:
        if tokens[position].kind == "mark" and tokens[position].text in _OPEN:
            end = _closes(tokens, position)
            yield from _in_brackets(tokens, first, position, end)
            position = end
        position += 1


def _in_brackets(tokens: Sequence[Token], first: int, opening: int, end: int) -> Iterator[tuple[int, int]]:
    call = tokens[opening].text == "(" and opening > first and tokens[opening - 1].kind == "name"
    receiver = opening - 2 if call else opening  # of a method, without its dot and its name
    if receiver > first:
        yield first, receiver  # what is in its own brackets was yielded before
    opaque = tokens[opening].text == "{" or (call and tokens[opening - 1].text in _WHOLE)
    if not opaque and end > opening + 1:
        for item in _operands(tokens, opening + 1, end, _COMMA):
            if item[1] > item[0]:  # nothing follows the last comma of a list
                yield from _spans(tokens, *item)


def _closes(tokens: Sequence[Token], opening: int) -> int:
    """Return where a bracket closes; that all do was checked when the text was read."""
    depth, position = 1, opening
    while depth:
        position += 1
        if tokens[position].kind == "mark":
            depth += (tokens[position].text in _OPEN) - (tokens[position].text in _CLOSE)
    return position


def conjuncts_of(text: str) -> tuple[str, ...]:
    """Return what has to be true, each of it, for a condition to be: the operands of ``&&`` at its outside."""
    tokens = read_condition(text).tokens
    return tuple(text[tokens[first].start : tokens[last - 1].end] for first, last in _conjuncts(tokens, 0, len(tokens)))


def _conjuncts(tokens: Sequence[Token], first: int, last: int) -> Iterator[tuple[int, int]]:
    while tokens[first].text == "(" and _closes(tokens, first) == last - 1:
        first, last = first + 1, last - 1
    looser = any(len(list(_operands(tokens, first, last, level))) > 1 for level in _LEVELS[:2])
    operands = [] if looser else list(_operands(tokens, first, last, _LEVELS[2]))
    if len(operands) < 2:  # noqa: PLR2004 - an operator has two sides
        yield first, last
        return
    for operand in operands:
        yield from _conjuncts(tokens, *operand)
