"""A decision as a row of its table, in every engine: texts by their numbers, what is absent as NULL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from issuer.core.hash_chain import extend
from issuer.core.record import PERSONAL, DecisionRecord
from issuer.core.record_encoding import decision_body
from issuer.ledger.schema import INTERNED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from issuer.core.hash_chain import Head

COLUMNS: Final = ("writer", "position", *DecisionRecord._fields, "hash")
"""The columns of a row, in the order of :func:`decision_row`."""
MAX_CACHED_TEXTS: Final = 100_000
"""So many numbers of texts a writer remembers before it forgets them all."""

_BEFORE: Final = COLUMNS.index(DecisionRecord._fields[0])
_PERSONAL: Final = tuple(DecisionRecord._fields.index(name) for name in PERSONAL)
_INTERNED: Final = tuple(DecisionRecord._fields.index(name) for name in INTERNED)
_TOKEN_ID: Final = DecisionRecord._fields.index("token_id")
_TOKEN_SHA256: Final = DecisionRecord._fields.index("token_sha256")
_APPROVAL: Final = DecisionRecord._fields.index("approval")
_ORIGIN: Final = DecisionRecord._fields.index("origin")
_NOTHING: Final = (b"", None)


def texts_of(record: DecisionRecord) -> Iterator[str]:
    """Yield the texts of a record that are kept once, the empty ones included."""
    return (str(record[position]) for position in _INTERNED)


def personal_texts_of(record: DecisionRecord) -> Iterator[str]:
    """Yield the texts of a record that may point to a person, the empty ones included."""
    return (str(record[position]) for position in _PERSONAL)


def decision_row(
    record: DecisionRecord,
    writer: int,
    head: Head,
    number_of: Callable[[str], int],
    personal_of: Callable[[str], tuple[bytes, int]],
) -> tuple[list[object], Head]:
    """Return the row of a decision that extends a chain, and the head after it.

    Args:
        record: The decision.
        writer: The number of the chain.
        head: The chain's last entry.
        number_of: The number of a text that is not empty.
        personal_of: What stands in the chain for a personal text that is not empty, and its number.
    """
    personal = [personal_of(text) if text else _NOTHING for text in personal_texts_of(record)]
    after = extend(head, decision_body(record, [digest for digest, _ in personal]))
    row: list[object] = [writer, after.position, *record, after.hash]
    for position in _INTERNED:
        text = record[position]
        row[_BEFORE + position] = number_of(text) if text else None  # type: ignore[arg-type]
    for position, (_, number) in zip(_PERSONAL, personal, strict=True):
        row[_BEFORE + position] = number
    row[_BEFORE + _TOKEN_ID] = record.token_id or None
    row[_BEFORE + _TOKEN_SHA256] = record.token_sha256 or None
    row[_BEFORE + _APPROVAL] = record.approval or None
    row[_BEFORE + _ORIGIN] = record.origin or None
    return row, after
