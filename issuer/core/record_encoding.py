"""The bytes of a ledger row that its chain is computed over; docs/LEDGER.md tells other programs.

An entry is a MessagePack array in shortest form: the version, the kind, and the fields in their order; text as
``str``, bytes as ``bin``, absent as ``nil``, no floats, no maps. A personal field is there as SHA-256 over its salt and
its text, so that the text can be erased and the chain still holds.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

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

_PERSONAL: Final = tuple(DecisionRecord._fields.index(name) for name in PERSONAL)
_FIRST_SHARED: Final = DecisionRecord._fields.index("caller")
_TOKEN_ID: Final = DecisionRecord._fields.index("token_id")
_AUDIT: Final = DecisionRecord._fields.index("audit")
_ARRAY_16_BYTES: Final = 3
"""What a MessagePack array of 16 to 65,535 elements begins with; one of fewer begins with one byte."""
_BUFFER_BYTES: Final = 1024
"""msgpack's own 256 KiB are more work to get and give back than an entry is to encode."""


class SharedBody(NamedTuple):
    """What of a body decisions have in common that differ in nothing but their ids, times and tokens.

    Attributes:
        before_token: The fields from the caller to the rule that set the lifetime, encoded.
        after_token: The audit, encoded.
    """

    before_token: bytes
    after_token: bytes


def salted(salt: bytes, text: str) -> bytes:
    """Return what stands in the chain for a personal text; nothing for an empty one."""
    return sha256(salt + text.encode()).digest() if text else b""


def decision_body(record: DecisionRecord, salted_fields: Sequence[bytes]) -> bytes:
    """Return the body of a decision.

    Args:
        record: The decision; its personal fields are not read.
        salted_fields: What stands for each of :data:`~issuer.core.record.PERSONAL`.
    """
    return body_of(record, shared_body(record, salted_fields))


def shared_body(record: DecisionRecord, salted_fields: Sequence[bytes]) -> SharedBody:
    """Return what :func:`body_of` needs; arguments as for :func:`decision_body`."""
    fields: list[object] = list(record[_FIRST_SHARED:_TOKEN_ID])
    for position, digest in zip(_PERSONAL, salted_fields, strict=True):
        fields[position - _FIRST_SHARED] = digest
    return SharedBody(_packed(fields)[_ARRAY_16_BYTES:], _packed(record[_AUDIT]))


def body_of(record: DecisionRecord, shared: SharedBody) -> bytes:
    """Return the body of a decision that has ``shared`` in common with the one that it was made of.

    An array is its length and its elements one after the other, so the parts are joined as they are.
    """
    version = _version(record)
    before, token = _packed(record[:_FIRST_SHARED])[1:], _packed(record[_TOKEN_ID:_AUDIT])[1:]
    body = _BEGINNINGS[version] + before + shared.before_token + token + shared.after_token
    return body if version == VERSION else body + _packed(record[_AUDIT + 1 : _FIELDS_OF[version]])[1:]


def _version(record: DecisionRecord) -> int:
    if record.origin or record.status is not None:
        return WITH_ORIGIN
    return WITH_APPROVAL if record.approval else VERSION


def event_body(event: Event) -> bytes:
    """Return the body of an event."""
    return _packed([VERSION, *event])


def next_hash(previous: bytes, body: bytes) -> bytes:
    """Return the hash of an entry: SHA-256 over the hash of the one before it in its chain, and its body."""
    return sha256(previous + body).digest()


def _packed(value: object) -> bytes:
    packed: bytes = msgpack.Packer(use_bin_type=True, buf_size=_BUFFER_BYTES).pack(value)
    return packed


_FIELDS: Final = len(DecisionRecord._fields)
_FIELDS_OF: Final = {VERSION: _FIELDS - 3, WITH_APPROVAL: _FIELDS - 2, WITH_ORIGIN: _FIELDS}
"""How many fields each version has: those that came later are left out."""
_BEGINNINGS: Final = {
    version: _packed([None] * (2 + fields))[:_ARRAY_16_BYTES] + _packed(version) + _packed(DECISION)
    for version, fields in _FIELDS_OF.items()
}
"""The length of a body's array, the version and the kind, encoded."""
