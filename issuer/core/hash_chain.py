"""A writer's chain: each entry's hash covers the one before it, so that none is changed, taken out or moved unseen."""

from __future__ import annotations

from typing import NamedTuple

from issuer.core.record_encoding import FIRST, next_hash


class Head(NamedTuple):
    """The last entry of a chain: its position, counted from 1, and its hash. Position 0 is before the first."""

    position: int
    hash: bytes


class WriterHead(NamedTuple):
    """The last entry of one writer's chain: the writer's id, and the entry's position and hash."""

    writer: str
    position: int
    hash: bytes


BEFORE_FIRST = Head(0, FIRST)


def extend(head: Head, body: bytes) -> Head:
    """Return the head after an entry with this body."""
    return Head(head.position + 1, next_hash(head.hash, body))
