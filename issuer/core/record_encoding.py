"""The bytes of a ledger row that its chain is computed over; docs/LEDGER.md tells other programs.

An entry is a MessagePack array in shortest form: the version, the kind, and the fields in their order; text as
``str``, bytes as ``bin``, absent as ``nil``, no floats, no maps. A personal field is there as SHA-256 over its salt and
its text, so that the text can be erased and the chain still holds.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

import msgpack

from issuer.core.record import PERSONAL, DecisionRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from issuer.core.ledger_entries import Event

VERSION: Final = 1
WITH_APPROVAL: Final = 2
"""The version of a decision that read an approval: the others are encoded as before there were any."""
WITH_ORIGIN: Final = 3
"""The version of a decision with an origin or a status, likewise."""
DECISION: Final = "decision"
SALT_BYTES: Final = 16
FIRST: Final = bytes(32)
"""What the hash of a chain's first entry covers in the place of the one before."""

_FIELDS: Final = len(DecisionRecord._fields)
_FIELDS_OF: Final = {VERSION: _FIELDS - 3, WITH_APPROVAL: _FIELDS - 2, WITH_ORIGIN: _FIELDS}
"""How many fields each version has: those that came later are left out."""
_PERSONAL: Final = tuple(DecisionRecord._fields.index(name) for name in PERSONAL)


def salted(salt: bytes, text: str) -> bytes:
    """Return what stands in the chain for a personal text; nothing for an empty one."""
    return sha256(salt + text.encode()).digest() if text else b""


def decision_body(record: Sequence[str | int | bytes | None], salted_fields: Sequence[bytes]) -> bytes:
    """Return the body of a decision.

    Args:
        record: A :class:`DecisionRecord`; its personal fields are not read.
        salted_fields: What stands for each of :data:`~issuer.core.record.PERSONAL`.
    """
    version = _version(record)
    fields: list[object] = [version, DECISION, *record[: _FIELDS_OF[version]]]
    for position, digest in zip(_PERSONAL, salted_fields, strict=True):
        fields[2 + position] = digest
    return _packed(fields)


def _version(record: Sequence[str | int | bytes | None]) -> int:
    approval, origin, status = record[-3:]
    if origin or status is not None:
        return WITH_ORIGIN
    return WITH_APPROVAL if approval else VERSION


def event_body(event: Event) -> bytes:
    """Return the body of an event."""
    return _packed([VERSION, *event])


def next_hash(previous: bytes, body: bytes) -> bytes:
    """Return the hash of an entry: SHA-256 over the hash of the one before it in its chain, and its body."""
    return sha256(previous + body).digest()


def _packed(fields: list[object]) -> bytes:
    body: bytes = msgpack.packb(fields, use_bin_type=True)
    return body
