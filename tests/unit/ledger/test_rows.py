"""A row says the same whichever engine writes it, and whatever was laid out before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgpack
from hypothesis import given
from hypothesis import strategies as st
from support.ledgers import record

from issuer.core.hash_chain import BEFORE_FIRST, extend
from issuer.core.ledger_entries import Event, KeptPolicy, Sweep
from issuer.core.record import PERSONAL, DecisionRecord
from issuer.core.record_encoding import DECISION, decision_body
from issuer.ledger.entries import pack_entries, unpack_entries
from issuer.ledger.rows import COLUMNS, SharedRows, decision_row, present_columns

if TYPE_CHECKING:
    from issuer.core.ledger_entries import Entry

_texts = st.sampled_from(["", "a", "spiffe://dev.test/x", "ä" * 40])
_numbers = st.sampled_from([None, 0, 1, 2**40])
_FIELDS_OF = {1: 28, 2: 29, 3: 31}
"""How many of a decision's fields a body of each version has (docs/LEDGER.md)."""
_bytes = st.sampled_from([b"", b"\1" * 32])


def _field(name: str) -> st.SearchStrategy[object]:
    if name == "decision_id":
        return st.binary(min_size=16, max_size=16)
    if name in {"time", "flags", "outcome"}:
        return st.integers(0, 2**50)
    if name in {"ttl_asked", "lifetime", "expires_at", "status"}:
        return _numbers
    return _bytes if name == "token_sha256" else _texts


records = st.builds(DecisionRecord, **{name: _field(name) for name in DecisionRecord._fields})


class Numbers:
    """Numbers for texts, as a writer gives them."""

    def __init__(self) -> None:
        self.of: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        assert text
        return self.of.setdefault(text, len(self.of) + 1)

    def personal(self, text: str) -> tuple[bytes, int]:
        return text.encode().ljust(32)[:32], self(text)


@given(st.lists(records, max_size=6))
def test_a_body_is_the_array_of_all_fields_whatever_was_laid_out_before(some: list[DecisionRecord]) -> None:
    numbers = Numbers()
    shared, head = SharedRows(numbers, numbers.personal), BEFORE_FIRST
    for each in some:
        digests = [numbers.personal(text)[0] if (text := getattr(each, name)) else b"" for name in PERSONAL]
        salted = dict(zip(PERSONAL, digests, strict=True))
        values = [salted.get(name, value) for name, value in each._asdict().items()]
        version = 3 if each.origin or each.status is not None else 2 if each.approval else 1
        plain = msgpack.packb([version, DECISION, *values[: _FIELDS_OF[version]]])
        assert decision_body(each, digests) == plain
        _, after = decision_row(each, 1, head, shared.of(each))
        assert after == extend(head, plain)
        head = after


@given(st.lists(records, max_size=6))
def test_columns_that_are_not_null_are_the_row_without_its_nulls(some: list[DecisionRecord]) -> None:
    numbers = Numbers()
    shared, head = SharedRows(numbers, numbers.personal), BEFORE_FIRST
    for each in some:
        row, after = decision_row(each, 7, head, shared.of(each))
        columns, values, same = present_columns(each, 7, head, shared.of(each))
        there = {name: value for name, value in zip(COLUMNS, row, strict=True) if value is not None}
        assert dict(zip(columns, values, strict=True)) == there
        assert len(set(columns)) == len(columns)
        assert same == after
        head = after


def test_what_is_forgotten_is_asked_for_again() -> None:
    numbers = Numbers()
    shared = SharedRows(numbers, numbers.personal)
    one = record()
    before = shared.of(one)
    other = record(peer="ipv4:10.9.9.9")
    assert shared.unknown([one, other]) == [other]
    assert shared.of(one) is before
    shared.forget()
    assert shared.unknown([one]) == [one]
    assert shared.of(one) == before


@given(st.lists(records, max_size=6))
def test_entries_come_out_as_they_went_in(some: list[DecisionRecord]) -> None:
    entries: list[Entry] = [Event("x", 1, "", "{}"), *some, KeptPolicy("d", b"f"), Sweep(3, (1, 2)), *some]
    assert unpack_entries(pack_entries(entries)) == entries
