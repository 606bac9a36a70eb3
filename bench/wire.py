"""A protobuf field by hand: for a message whose definition is not ours."""

from __future__ import annotations

_LENGTH_DELIMITED = 2
_LARGEST = 127
"""Of what fits into one byte of a length."""


def field(number: int, value: bytes) -> bytes:
    """Return a field of bytes or text.

    Raises:
        ValueError: It is longer than 127 bytes.
    """
    if len(value) > _LARGEST:
        raise ValueError(f"{len(value)} bytes")
    return bytes((number << 3 | _LENGTH_DELIMITED, len(value))) + value
