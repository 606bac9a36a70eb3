"""Entries on their way to the process that writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgpack

from issuer.core.ledger_entries import (
    Checkpoint,
    Event,
    KeptPolicy,
    PrunedTo,
    RevocationLifted,
    RevocationMade,
    StepTaken,
    Sweep,
)
from issuer.core.record import DecisionRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from issuer.core.ledger_entries import Entry

_KINDS: Final[tuple[type[Entry], ...]] = (
    DecisionRecord,
    Event,
    KeptPolicy,
    Checkpoint,
    PrunedTo,
    Sweep,
    RevocationMade,
    RevocationLifted,
    StepTaken,
)


def pack_entries(entries: Sequence[Entry]) -> bytes:
    """Return entries as bytes."""
    packed: bytes = msgpack.packb([(_KINDS.index(type(entry)), entry) for entry in entries], use_bin_type=True)
    return packed


def unpack_entries(packed: bytes) -> list[Entry]:
    """Return the entries of :func:`pack_entries`."""
    listed: list[tuple[int, list[Any]]] = msgpack.unpackb(packed, raw=False)
    return [_KINDS[kind](*fields) for kind, fields in listed]
