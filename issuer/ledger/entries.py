"""Entries on their way to the process that writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

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
from issuer.ledger.sqlite_connection import BUFFER_BYTES

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
_DECISION: Final = _KINDS.index(DecisionRecord)
_FIRST: Final = DecisionRecord._fields.index("caller")
_TOKEN_ID: Final = DecisionRecord._fields.index("token_id")


def pack_entries(entries: Sequence[Entry]) -> bytes:
    """Return entries as bytes.

    What decisions have in common from the caller to the rule that set the lifetime is there once.
    """
    common: dict[tuple[object, ...], int] = {}
    packed = []
    for entry in entries:
        kind = _KINDS.index(type(entry))
        if kind == _DECISION:
            number = common.setdefault(entry[_FIRST:_TOKEN_ID], len(common))
            packed.append((kind, number, *entry[:_FIRST], *entry[_TOKEN_ID:]))
        else:
            packed.append((kind, *entry))
    return _packed([list(common), packed])


def unpack_entries(packed: bytes) -> list[Entry]:
    """Return the entries of :func:`pack_entries`."""
    common, listed = msgpack.unpackb(packed, raw=False, use_list=False)
    entries: list[Entry] = []
    for kind, *fields in listed:
        if kind == _DECISION:
            number, *own = fields
            entries.append(DecisionRecord(*own[:_FIRST], *common[number], *own[_FIRST:]))
        else:
            entries.append(_KINDS[kind](*fields))
    return entries


def _packed(value: object) -> bytes:
    packed: bytes = msgpack.Packer(use_bin_type=True, buf_size=BUFFER_BYTES).pack(value)
    return packed
