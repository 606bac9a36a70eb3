"""W3C trace context (https://www.w3.org/TR/trace-context/), from callers that may say to which trace a call belongs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

HEADER: Final = "traceparent"
"""`tracestate` is not read: the issuer sends no context on to anybody."""
_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED: Final = 0x01
_MAX_LENGTH: Final = 256
"""A future version may be longer than the 55 characters of version 00; nobody needs more than this."""


class Parent(NamedTuple):
    """The span of the caller in which a call was made."""

    trace_id: bytes
    span_id: bytes
    is_sampled: bool


def parent_of(metadata: Iterable[tuple[str, str | bytes]]) -> Parent | None:
    """Return what the one `traceparent` of a call says; ``None`` when there is none, several, or one that is malformed.

    Section 3.2.2.3 of the recommendation: all zeros are no id. Section 4.3: of a later version the first four fields
    are read, and version ``ff`` is none.
    """
    values = [value for name, value in metadata if name == HEADER]
    if len(values) != 1 or not isinstance(values[0], str) or len(values[0]) > _MAX_LENGTH:
        return None
    match = _TRACEPARENT.fullmatch(values[0])
    if match is None or match[1] == "ff" or (match[1] == "00" and match[5]):
        return None
    trace_id, span_id = bytes.fromhex(match[2]), bytes.fromhex(match[3])
    if not any(trace_id) or not any(span_id):
        return None
    return Parent(trace_id, span_id, bool(int(match[4], 16) & _SAMPLED))
