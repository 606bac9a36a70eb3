"""JSON objects of others, read so that nobody else could read them otherwise (RFC 7493)."""

from __future__ import annotations

import json
from typing import Any, Final, Never

MAX_DEPTH: Final = 32
"""Objects and arrays within each other: an ``act`` chain of the deepest that can be configured, with room."""


def strict_object(data: bytes) -> dict[str, Any]:
    """Return the JSON object that ``data`` is.

    No object in it has a member twice, of which parsers take one or the other (RFC 8725 section 3.12); there is no NaN
    and no infinity, and nothing is nested deeper than :data:`MAX_DEPTH`. The size is for the caller to bound.

    Raises:
        ValueError: It is none. The message has nothing of the text.
    """
    try:
        text = data.decode("utf-8")
        value, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        raise ValueError("is not strict JSON") from None
    if not isinstance(value, dict) or end != len(text) or _is_deeper(value, MAX_DEPTH):
        raise ValueError("is not one JSON object")
    return value


def _is_deeper(value: object, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        level = [inner for outer in level for inner in _members(outer)]
    return bool(level)


def _members(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _members_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member occurs twice")
    return members


def _no_constant(name: str) -> Never:
    raise ValueError(f"{name} is not JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_members_once, parse_constant=_no_constant)
