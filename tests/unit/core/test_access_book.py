"""The fold of the steps of windows of access, and what the ledger lets each entry take."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from support.approvals import begun, given, question
from support.windows import HOUR, OPERATOR, SETTLER, ended, opening_now, started

from issuer.core.access_book import AccessBook
from issuer.core.access_window import Status
from issuer.core.approval_book import ApprovalBook
from issuer.core.approval_state import Status as ApprovalStatus
from issuer.core.approval_text import approval_text
from issuer.core.claim_books import ClaimBooks
from issuer.core.instants import microseconds
from issuer.core.ledger_claims import ClaimRow, claims_of, step_key, step_of_key
from issuer.core.ledger_entries import ACCESS, StepTaken
from issuer.system import SystemClock

if TYPE_CHECKING:
    from issuer.core.ledger_entries import Entry

now = SystemClock().now


def rows(*entries: Entry, first: int = 1) -> list[ClaimRow]:
    return [ClaimRow(version, *claim) for version, claim in enumerate(claims_of(entries), first)]


def told(*entries: Entry) -> AccessBook:
    book = AccessBook()
    book.learn(rows(*entries), now())
    return book


def test_the_steps_fold_into_what_is_open() -> None:
    first, second = opening_now(), opening_now()
    book = told(started(first), started(second), ended(second))
    assert [each.id for each in book] == sorted((first.id, second.id), reverse=True)
    assert [each.id for each in book.not_ended] == [first.id]
    known = book.get(second.id)
    assert known is not None
    assert known.status_at(microseconds(now())) is Status.COMPLETED
    assert {each.id for each in book.of_caller(SETTLER)} == {first.id, second.id}
    assert book.of_caller(OPERATOR) == []


def test_steps_that_are_made_are_taken() -> None:
    first = opening_now()
    book = told(started(first))
    assert [book.is_taken(step_key(ACCESS, first.id, number)) for number in (1, 2)] == [True, False]
    assert not book.is_taken(step_key(ACCESS, "other", 1))
    assert step_of_key(ACCESS, "approval/x/1") is None


def test_a_call_with_the_same_id_finds_its_window_and_claims_the_id() -> None:
    asked, other = opening_now(request="call-7"), opening_now()
    book = told(started(asked), started(other))
    known = book.asked_before(SETTLER, "call-7")
    assert known is not None
    assert known.id == asked.id
    assert book.asked_before(OPERATOR, "call-7") is None
    assert book.asked_before(SETTLER, "") is None
    first, again = (claims_of([started(each)])[0].key for each in (asked, opening_now(request="call-7")))
    assert first == again
    assert first != claims_of([started(opening_now(request="call-7", caller=OPERATOR))])[0].key


def test_opening_a_window_on_an_approval_uses_it_up() -> None:
    asked = question()
    approvals, accesses = ApprovalBook(), AccessBook()
    books = ClaimBooks(approvals, accesses)
    before = rows(begun(asked), given(asked))
    books.learn(before, now())
    [known] = approvals
    approved = known.approved_at(microseconds(now()))
    opened = started(opening_now(approval=approval_text(approved)))
    books.learn(rows(opened, first=books.version + 1), now())
    [known] = approvals
    assert known.status is ApprovalStatus.USED_UP
    assert books.is_taken(step_key(ACCESS, opened.id, 1))
    assert books.is_taken(f"approval/{asked.id}/3")
    assert not books.is_taken(f"approval/{asked.id}/4")
    assert accesses.get(opened.id) is not None


def test_a_step_of_something_else_takes_nothing_but_itself() -> None:
    step = StepTaken("x", "other", "id", 1, 0, SETTLER, "{}", 1)
    assert [claim.key for claim in claims_of([step])] == ["other/id/1"]


def test_who_watches_hears_of_windows_alone() -> None:
    book, heard = AccessBook(), []
    stop = book.watch(lambda: heard.append(len(book)))
    book.learn(rows(begun(question())), now())
    assert heard == []
    book.learn(rows(started(opening_now()), first=3), now())
    stop()
    book.learn(rows(started(opening_now()), first=4), now())
    assert heard == [1]


def test_what_no_issuer_would_write_ends_the_window() -> None:
    first = opening_now()
    said = ended(first)
    forged = said._replace(actor=OPERATOR)
    [known] = told(started(first), forged)
    assert known.ended is Status.REVOKED
    [known] = told(started(first), said, said._replace(number=3))
    assert (known.ended, known.number) == (Status.COMPLETED, 3)


def test_what_is_long_over_is_forgotten_and_steps_of_it_change_nothing() -> None:
    first, second = opening_now(until=microseconds(now())), opening_now()
    book: AccessBook = told(started(first), started(second))
    later = now() + timedelta(hours=1, seconds=1)
    book.learn(rows(ended(first), first=9), later)
    assert [each.id for each in book] == [second.id]
    book.learn([], later + timedelta(microseconds=HOUR))
    assert list(book) == []
    assert book.of_caller(SETTLER) == []
    book.learn(rows(ended(first), first=10), later)
    assert list(book) == []
