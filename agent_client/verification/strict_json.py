"""JSON objects, read so that nobody else could read them otherwise (RFC 7493). Pure.

What is wrong with a text is not told: the standard library's errors carry the whole document, which may be a token's.
"""

from __future__ import annotations

import json
import math
from typing import Any, Never

MAX_DEPTH = 16
"""Objects and arrays within each other. Our claims nest three deep, and a chain of actors a few more."""
_WHITE_SPACE = " \t\n\r"  # RFC 8259 section 2


def strict_object(data: bytes) -> dict[str, Any] | None:
    """Return the JSON object that ``data`` is, or ``None``.

    It is one object in UTF-8 with nothing but white space around it. No object in it has a member twice, whose value
    parsers disagree on (RFC 8725 section 3.12); there is no NaN and no infinity, nor a number that would read as one,
    no lone surrogate (RFC 7493 section 2), nothing nested deeper than :data:`MAX_DEPTH`. Integers have at most 4,300
    digits, which is Python's own bound.

    The size of ``data`` is for the caller to bound, and the range of a number for whoever reads it.
    """
    try:
        text = data.decode("utf-8").strip(_WHITE_SPACE)
        value, end = _DECODER.raw_decode(text)
        if "\\u" in text:  # only an escape can bring a lone surrogate
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        return None
    if text.count("{") + text.count("[") > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        return None
    return value if isinstance(value, dict) and end == len(text) else None


def _deeper_than(value: object, depth: int) -> bool:
    """Return whether objects and arrays nest deeper, level by level."""
    level = [value]
    for _ in range(depth + 1):
        level = [inner for outer in level for inner in _members(outer)]
        if not level:
            return False
    return True


def _members(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _members_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member occurs twice")
    return members


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _no_constant(name: str) -> Never:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_members_once, parse_float=_finite, parse_constant=_no_constant)
