"""A decision as a row of its table, in every engine: texts by their numbers, what is absent as NULL.

Most decisions differ from others in nothing but their id, their time and their token: the rest of a row, and of what is
chained, is laid out once for all of them.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final, NamedTuple

from issuer.core.hash_chain import extend
from issuer.core.record import PERSONAL, DecisionRecord
from issuer.core.record_encoding import body_of, shared_body
from issuer.ledger.schema import INTERNED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from issuer.core.hash_chain import Head
    from issuer.core.record_encoding import SharedBody

COLUMNS: Final = ("writer", "position", *DecisionRecord._fields, "hash")
"""The columns of a row, in the order of :func:`decision_row`."""
MAX_CACHED_TEXTS: Final = 100_000
"""So many numbers of texts a writer remembers before it forgets them all."""
MAX_SHARED: Final = 4_096
"""So many shared parts of rows a writer remembers before it forgets them all: about 2 KiB each."""

_FIRST: Final = DecisionRecord._fields.index("caller")
_TOKEN_ID: Final = DecisionRecord._fields.index("token_id")
_AUDIT: Final = DecisionRecord._fields.index("audit")
_SHARED_FIELDS: Final = (*DecisionRecord._fields[_FIRST:_TOKEN_ID], "audit")
_PERSONAL: Final = tuple(DecisionRecord._fields.index(name) for name in PERSONAL)
_INTERNED: Final = tuple(DecisionRecord._fields.index(name) for name in INTERNED)
_NOTHING: Final = (b"", None)
_ALWAYS: Final = ("writer", "position", "decision_id", "time", "hash")
_OFTEN: Final = ("token_id", "expires_at", "token_sha256", "approval", "origin", "status")
_OFTEN_THERE: Final = {
    there: tuple(name for name, is_there in zip(_OFTEN, there, strict=True) if is_there)
    for there in product((False, True), repeat=len(_OFTEN))
}

Value = str | int | bytes | bytearray | None


class Shared(NamedTuple):
    """What rows have in common.

    Attributes:
        body: That of what is chained.
        values: In the row, in the order of the fields from ``caller`` to ``lifetime_rule``, and ``audit``.
        columns: Those of the values that are not NULL.
        present: These values.
    """

    body: SharedBody
    values: tuple[Value, ...]
    columns: tuple[str, ...]
    present: tuple[Value, ...]


class SharedRows:
    """What rows have in common that a writer has written. To be forgotten whenever numbers of texts are.

    Args:
        number_of: The number of a text that is not empty.
        personal_of: What stands in the chain for a personal text that is not empty, and its number.
    """

    def __init__(self, number_of: Callable[[str], int], personal_of: Callable[[str], tuple[bytes, int]]) -> None:
        self._number_of = number_of
        self._personal_of = personal_of
        self._known: dict[tuple[Value, ...], Shared] = {}

    def of(self, record: DecisionRecord) -> Shared:
        """Return what the row of a decision has in common with others."""
        key = (*record[_FIRST:_TOKEN_ID], record[_AUDIT])
        shared = self._known.get(key)
        if shared is None:
            if len(self._known) >= MAX_SHARED:
                self._known.clear()
            shared = self._known[key] = self._laid_out(record)
        return shared

    def unknown(self, records: Iterable[DecisionRecord]) -> list[DecisionRecord]:
        """Return the decisions that have nothing in common with one that was written."""
        return [record for record in records if (*record[_FIRST:_TOKEN_ID], record[_AUDIT]) not in self._known]

    def forget(self) -> None:
        """Forget all of it."""
        self._known.clear()

    def _laid_out(self, record: DecisionRecord) -> Shared:
        fields: list[Value] = list(record)
        for position in _INTERNED:
            text = record[position]
            fields[position] = self._number_of(str(text)) if text else None
        personal = [self._personal_of(text) if text else _NOTHING for text in personal_texts_of(record)]
        for position, (_, number) in zip(_PERSONAL, personal, strict=True):
            fields[position] = number
        values = (*fields[_FIRST:_TOKEN_ID], fields[_AUDIT])
        there = [(name, value) for name, value in zip(_SHARED_FIELDS, values, strict=True) if value is not None]
        body = shared_body(record, [digest for digest, _ in personal])
        return Shared(body, values, tuple(name for name, _ in there), tuple(value for _, value in there))


def texts_of(record: DecisionRecord) -> Iterator[str]:
    """Yield the texts of a record that are kept once, the empty ones included."""
    return (str(record[position]) for position in _INTERNED)


def personal_texts_of(record: DecisionRecord) -> Iterator[str]:
    """Yield the texts of a record that may point to a person, the empty ones included."""
    return (str(record[position]) for position in _PERSONAL)


def decision_row(record: DecisionRecord, writer: int, head: Head, shared: Shared) -> tuple[list[Value], Head]:
    """Return the row of a decision that extends a chain, and the head after it.

    Args:
        record: The decision.
        writer: The number of the chain.
        head: The chain's last entry.
        shared: What it has in common with others.
    """
    after = extend(head, body_of(record, shared.body))
    *values, audit = shared.values
    row: list[Value] = [writer, after.position, record.decision_id, record.time, *values]
    row += [record.token_id or None, record.expires_at, record.token_sha256 or None, audit]
    row += [record.approval or None, record.origin or None, record.status, after.hash]
    return row, after


def present_columns(
    record: DecisionRecord, writer: int, head: Head, shared: Shared
) -> tuple[tuple[str, ...], list[Value], Head]:
    """Return the columns of a decision's row that are not NULL, their values, and the head after it.

    Python's sqlite3 looks for an adapter for each value that is ``None`` or ``bytes``, which costs more than the rest
    of an insertion: so the former are left out, and the latter are of a type that it knows. Arguments as for
    :func:`decision_row`.
    """
    after = extend(head, body_of(record, shared.body))
    often: tuple[Value, ...] = (
        record.token_id or None,
        record.expires_at,
        bytearray(record.token_sha256) if record.token_sha256 else None,
        record.approval or None,
        record.origin or None,
        record.status,
    )
    row: list[Value] = [writer, after.position, bytearray(record.decision_id), record.time, bytearray(after.hash)]
    row += [value for value in often if value is not None]
    row += shared.present
    columns = _OFTEN_THERE[tuple([value is not None for value in often])]
    return _ALWAYS + columns + shared.columns, row, after
