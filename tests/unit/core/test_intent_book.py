"""The fold of the steps of intents: what is known, counted, told of and forgotten."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from support.intents import MINUTES, SCHEDULER, WORKER, cancelled, expired, registered, registration, using

from issuer.core.intent_book import IntentBook
from issuer.core.intent_state import Status
from issuer.core.ledger_claims import ClaimRow, claims_of, step_key
from issuer.core.ledger_entries import APPROVAL, INTENT
from issuer.system import SystemClock

if TYPE_CHECKING:
    from datetime import datetime

    from issuer.core.ledger_entries import Entry

now = SystemClock().now
OTHER = "spiffe://prod.example/ns/batch/sa/other"


def learn(book: IntentBook, *entries: Entry, at: datetime | None = None) -> None:
    book.learn([ClaimRow(0, *claim) for claim in claims_of(entries)], at or now())


def told(*entries: Entry) -> IntentBook:
    book = IntentBook()
    learn(book, *entries)
    return book


def test_the_steps_fold_into_what_became_of_it() -> None:
    asked = registration(uses=2)
    book = told(registered(asked))
    [known] = book
    assert (known.registration, known.status, len(book)) == (asked, Status.REGISTERED, 1)
    learn(book, using(known))
    [known] = book
    assert (known.uses_left, book.open_count) == (1, 1)
    learn(book, using(known))
    used_up = book.get(asked.id)
    assert used_up is not None
    assert (used_up.status, len(used_up.decisions), book.open_count) == (Status.REDEEMED, 2, 0)


def test_steps_that_are_made_are_taken() -> None:
    asked = registration()
    book = told(registered(asked))
    assert [book.is_taken(step_key(INTENT, asked.id, number)) for number in (1, 2)] == [True, False]
    assert not book.is_taken(step_key(INTENT, "other", 1))
    assert not book.is_taken(step_key(APPROVAL, asked.id, 1))
    assert not book.is_taken("registration/x")


def test_both_parties_find_it_and_nobody_else() -> None:
    first, second = registration(), registration(consumer=OTHER)
    book = told(registered(first), registered(second))
    assert [each.id for each in book.of(SCHEDULER)] == sorted([first.id, second.id], reverse=True)
    assert [each.id for each in book.of(WORKER)] == [first.id]
    assert list(book.of("spiffe://prod.example/nobody")) == []


def test_what_is_open_and_kept_is_counted() -> None:
    first, second = registration(), registration(consumer=OTHER)
    book = told(registered(first), registered(second))
    assert (book.open_from(SCHEDULER), book.open_for(WORKER), book.open_for(OTHER), book.kept_of(SCHEDULER)) == (
        2,
        1,
        1,
        2,
    )
    learn(book, cancelled(first))
    assert (book.open_from(SCHEDULER), book.open_for(WORKER), book.kept_of(SCHEDULER)) == (1, 0, 2)
    assert (book.open_from(WORKER), book.kept_of(WORKER)) == (0, 0)


def test_a_request_is_known_by_the_name_that_its_registrar_gave_it() -> None:
    asked = registration(request_id="job-7")
    book = told(registered(asked), registered(registration()))
    known = book.of_request(SCHEDULER, "job-7")
    assert known is not None
    assert known.id == asked.id
    assert book.of_request(OTHER, "job-7") is None
    assert book.of_request(SCHEDULER, "") is None


def test_what_expired_is_told_of_once() -> None:
    asked, open_one = registration(age=61 * MINUTES), registration()
    book = told(registered(asked), registered(open_one))
    assert [each.id for each in book.unreported(now())] == [asked.id]
    learn(book, expired(asked))
    assert book.unreported(now()) == []
    known = book.get(asked.id)
    assert known is not None
    assert (known.status, known.uses_left) == (Status.EXPIRED, 1)


def test_what_is_done_is_forgotten_with_its_window_and_what_expired_a_day_later() -> None:
    redeemed, late = registration(request_id="a"), registration(request_id="b")
    book = told(registered(redeemed), registered(late))
    known = book.get(redeemed.id)
    assert known is not None
    learn(book, using(known))
    learn(book, at=now() + timedelta(minutes=59))
    assert len(book) == 2
    learn(book, at=now() + timedelta(minutes=61))
    assert [each.id for each in book] == [late.id]
    assert (book.kept_of(SCHEDULER), book.of_request(SCHEDULER, "a")) == (1, None)
    learn(book, at=now() + timedelta(hours=26))  # though nobody told that it expired
    assert list(book) == list(book.of(SCHEDULER)) == list(book.of(WORKER)) == []
    assert (book.open_count, book.open_from(SCHEDULER), book.open_for(WORKER), book.kept_of(SCHEDULER)) == (0, 0, 0, 0)


def test_what_was_told_to_have_expired_is_kept_for_a_day() -> None:
    asked = registration()
    book = told(registered(asked))
    learn(book, expired(asked), at=now() + timedelta(minutes=61))
    learn(book, at=now() + timedelta(hours=24))
    assert len(book) == 1
    learn(book, at=now() + timedelta(hours=26))
    assert len(book) == 0


def test_a_step_that_no_issuer_wrote_ends_it() -> None:
    asked = registration(uses=2)
    book = told(registered(asked))
    learn(book, cancelled(asked, by=WORKER))
    [known] = book
    assert (known.status, known.uses_left, known.number) == (Status.CANCELLED, 0, 2)
    learn(book, cancelled(asked, number=3))
    assert book.open_count == 0


def test_steps_of_what_is_forgotten_change_nothing() -> None:
    assert list(told(cancelled(registration()))) == []


def test_the_name_of_a_request_may_come_again_once_its_intent_is_forgotten() -> None:
    old, new = registration(age=26 * 60 * MINUTES, request_id="a"), registration(request_id="a")
    book = IntentBook()
    book.learn([ClaimRow(0, *claim) for claim in claims_of([registered(old), registered(new)])], now())
    known = book.of_request(SCHEDULER, "a")
    assert known is not None
    assert known.id == new.id


def test_what_a_request_names_is_taken_once() -> None:
    claims = claims_of([registered(registration(request_id="job-7")), registered(registration(request_id="job-7"))])
    assert len({claim.key for claim in claims}) == 3
    assert len(claims_of([registered(registration())])) == 1
    other = claims_of([registered(registration(registrar=OTHER, request_id="job-7"))])
    assert not {claim.key for claim in claims} & {claim.key for claim in other}


def test_only_a_token_uses_an_intent_up() -> None:
    asked = registration()
    [known] = told(registered(asked))
    [claim] = claims_of([using(known), using(known, token_id="")])
    assert (claim.key, claim.actor, claim.expires_at) == (f"intent/{asked.id}/2", WORKER, asked.over_at)
