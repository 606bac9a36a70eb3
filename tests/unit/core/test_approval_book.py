"""The fold of the steps of requests for approval, and what the ledger lets each entry take."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from support.approvals import ALICE, BOB, MINUTES, SETTLER, begun, given, question, using
from support.ledgers import record

from issuer.core.approval_book import ApprovalBook
from issuer.core.approval_state import Status, Step, StepKind, name_of
from issuer.core.approval_text import step_text
from issuer.core.instants import microseconds
from issuer.core.ledger_claims import ClaimRow, claims_of, step_key, step_of_key
from issuer.core.ledger_entries import APPROVAL, APPROVAL_DENIED, StepTaken
from issuer.core.spiffe_id import SpiffeId
from issuer.system import SystemClock

if TYPE_CHECKING:
    from issuer.core.ledger_entries import Entry

now = SystemClock().now

NOBODY = SpiffeId.parse("spiffe://prod.example/nobody")


def told(*entries: Entry) -> ApprovalBook:
    book = ApprovalBook()
    rows = [ClaimRow(version, *claim) for version, claim in enumerate(claims_of(entries), 1)]
    book.learn(rows, now())
    return book


def test_the_steps_fold_into_what_is_approved() -> None:
    asked = question()
    book = told(begun(asked), given(asked))
    [known] = book
    assert book.get(asked.id) is known
    assert name_of(known) == f"approvalRequests/{asked.id}"
    assert known.status is Status.APPROVED
    assert not book.approved_for(SpiffeId.parse(SETTLER), now()).is_empty
    assert book.approved_for(NOBODY, now()).is_empty
    assert book.approved_for(SpiffeId.parse(SETTLER), now() + timedelta(minutes=16)).is_empty


def test_steps_that_are_made_are_taken() -> None:
    asked = question()
    book = told(begun(asked))
    taken = [book.is_taken(step_key(APPROVAL, asked.id, number)) for number in (1, 2)]
    assert taken == [True, False]
    assert not book.is_taken(step_key(APPROVAL, "other", 1))
    assert not book.is_taken("intent/x/1")
    assert step_of_key(APPROVAL, "intent/x/1") is None


def test_the_same_question_is_found_while_it_is_open_or_denied() -> None:
    asked = question()
    digest, time = asked.asked.digest, microseconds(now())
    assert told(begun(asked)).same(SETTLER, digest, time) is not None
    assert told(begun(asked)).same(SETTLER, "sha256:other", time) is None
    assert told(begun(asked)).last_like(SETTLER, digest) == asked.id
    assert told().last_like(SETTLER, digest) == ""
    said = step_text(Step(StepKind.DENY, BOB))
    denied = told(
        begun(asked), StepTaken(APPROVAL_DENIED, APPROVAL, asked.id, 2, asked.created + 1, BOB, said, asked.over_at)
    )
    assert denied.same(SETTLER, digest, time) is not None
    assert denied.same(SETTLER, digest, asked.pending_until) is None
    old = question(age=20 * MINUTES)
    assert told(begun(old)).same(SETTLER, digest, time) is None


def test_a_step_that_no_issuer_wrote_ends_the_request() -> None:
    asked = question()
    [known] = told(begun(asked), given(asked, by="spiffe://prod.example/stranger"), given(asked, ALICE, number=3))
    assert known.status is Status.REVOKED
    assert known.approved_at(microseconds(now())) is None


def test_steps_of_what_is_forgotten_change_nothing() -> None:
    asked = question()
    book = told(given(asked))
    assert list(book) == []
    other = question(age=31 * MINUTES)
    book = told(begun(other), begun(asked))
    assert [each.id for each in book] == [asked.id]
    assert [each.id for each in book.of_caller(SETTLER)] == [asked.id]
    assert list(told(begun(other))) == []


def test_who_watches_is_told_of_news_alone() -> None:
    book, asked, heard = ApprovalBook(), question(), []
    stop = book.watch(lambda: heard.append(1))
    book.learn([], now())
    rows = [ClaimRow(version, *claim) for version, claim in enumerate(claims_of([begun(asked)]), 1)]
    book.learn(rows, now())
    stop()
    book.learn(rows, now())
    assert heard == [1]


def test_only_a_token_uses_an_approval() -> None:
    asked = question()
    [known] = told(begun(asked), given(asked))
    approved = known.approved_at(microseconds(now()))
    assert approved is not None
    [claim] = claims_of([using(approved), record(), using(approved, token_id="")])
    assert (claim.key, claim.actor) == (f"approval/{asked.id}/3", SETTLER)
