from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issuer.core.chain_check import ChainEntry, ChainWalk
from issuer.core.hash_chain import BEFORE_FIRST, extend


def chain(*bodies: bytes) -> list[ChainEntry]:
    entries, head = [], BEFORE_FIRST
    for body in bodies:
        head = extend(head, body)
        entries.append(ChainEntry(head.position, head.hash, body, f"d{head.position}"))
    return entries


GOOD = chain(b"a", b"b", b"c", b"d")


def fault_of(entries: list[ChainEntry], walk: ChainWalk | None = None) -> tuple[int, str]:
    _, fault = (walk or ChainWalk("w")).check(entries)
    assert fault is not None
    return fault.position, fault.problem


def test_a_chain_that_holds_ends_at_its_head() -> None:
    assert ChainWalk("w").check(GOOD) == ((4, GOOD[3].hash), None)
    assert ChainWalk("w").check([]) == (BEFORE_FIRST, None)


def test_an_edited_entry_is_named() -> None:
    edited = [*GOOD[:1], GOOD[1]._replace(body=b"x"), *GOOD[2:]]
    assert fault_of(edited) == (2, "was changed, or stands in the place of another")


def test_an_edited_entry_with_its_own_hash_mended_breaks_the_next() -> None:
    mended = chain(b"a", b"x")
    assert fault_of([*mended, *GOOD[2:]])[0] == 3


def test_a_removed_entry_is_named() -> None:
    assert fault_of([*GOOD[:1], *GOOD[2:]]) == (2, "is entry 3; the entries before it, from 2, were removed")


def test_reordered_and_doubled_entries_are_seen() -> None:
    swapped = [GOOD[0], GOOD[2]._replace(position=2), GOOD[1]._replace(position=3), GOOD[3]]
    assert fault_of(swapped)[0] == 2
    assert fault_of([*GOOD[:2], GOOD[1]]) == (3, "is entry 2 a second time")


def test_a_truncated_chain_is_seen_where_somebody_holds_its_head() -> None:
    walk = ChainWalk("w", claims={4: (GOOD[3].hash, "checkpoint 7")})
    assert walk.check(GOOD)[1] is None
    assert fault_of(GOOD[:2], walk) == (3, "the chain ends at 2, and checkpoint 7 names its entry 4")


def test_a_chain_that_was_written_anew_is_not_the_one_that_was_signed() -> None:
    walk = ChainWalk("w", claims={2: (GOOD[1].hash, "checkpoint 7")})
    assert fault_of(chain(b"a", b"x", b"c"), walk) == (2, "is not the entry that checkpoint 7 names")


def test_a_pruned_chain_goes_on_from_what_was_kept_of_it() -> None:
    assert ChainWalk("w", start=extend(extend(BEFORE_FIRST, b"a"), b"b")).check(GOOD[2:])[1] is None
    assert fault_of(GOOD[2:])[0] == 1


@given(st.lists(st.binary(max_size=4), min_size=2, max_size=8), st.data())
def test_no_single_edit_goes_unseen(bodies: list[bytes], data: st.DataObject) -> None:
    entries = chain(*bodies)
    claims = {len(entries): (entries[-1].hash, "c")}
    at = data.draw(st.integers(0, len(entries) - 1))
    other = data.draw(st.binary(max_size=4).filter(lambda body: body != bodies[at]))
    edits = [
        [*entries[:at], entries[at]._replace(body=other), *entries[at + 1 :]],
        [*entries[:at], *entries[at + 1 :]],
        entries[:at],
    ]
    for edited in edits:
        assert ChainWalk("w", claims=claims).check(edited)[1] is not None


@pytest.mark.parametrize("name", ["d1", "d4"])
def test_the_fault_names_the_entry(name: str) -> None:
    edited = [entry._replace(body=b"x") if entry.name == name else entry for entry in GOOD]
    _, fault = ChainWalk("w").check(edited)
    assert fault is not None
    assert (fault.writer, fault.name) == ("w", name)
