from __future__ import annotations

import gc
import inspect
import weakref
from datetime import timedelta

import pytest
from support.kept_tokens import AUDIENCE, REQUEST, SETTLER, token

from agent_client import errors
from agent_client.errors import IssuerRequestError, PolicyDenied
from agent_client.requests import Intent, TokenRequest
from agent_client.tokens.entry import LONG_AGO, Entry, again, remembered

REQUEST_ERRORS = [
    kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, IssuerRequestError)
]


class Keeper:
    pass


def test_a_new_entry_has_nothing() -> None:
    entry: Entry[object] = Entry(REQUEST)
    assert (entry.good, entry.flight, entry.failure, entry.due_at) == (None, None, None, None)
    assert not entry.wanted
    assert entry.renewable


def wanted(entry: Entry[object]) -> bool:
    return entry.wanted


def test_it_is_wanted_while_used_or_kept() -> None:
    entry: Entry[object] = Entry(REQUEST)
    keeper = Keeper()
    entry.keepers.add(keeper)
    assert wanted(entry)
    del keeper
    gc.collect()
    assert not wanted(entry)
    entry.used = True
    assert wanted(entry)


def test_what_an_intent_paid_for_is_not_renewed() -> None:
    assert not Entry[object](TokenRequest(AUDIENCE, ["a"], intent=Intent(ticket="CHG-1"))).renewable


def test_a_token_is_good_until_its_last_moment_and_not_at_it() -> None:
    issued = token()
    entry: Entry[object] = Entry(REQUEST, good=issued, good_until=100.0)
    assert entry.seconds_left(99.5) == 0.5
    assert entry.seconds_left(100.0) is None
    assert entry.good_other_than(token(), 99.5) is issued
    assert entry.good_other_than(issued, 99.5) is None
    assert entry.good_other_than(token(), 100.0) is None


def test_nothing_of_a_dropped_token_is_left() -> None:
    entry: Entry[object] = Entry(REQUEST, good=token(), owner=SETTLER, good_until=100.0, fresh_until=50.0)
    entry.drop()
    assert (entry.good, entry.owner, entry.good_until, entry.fresh_until) == (None, None, LONG_AGO, LONG_AGO)
    assert entry.seconds_left(LONG_AGO) is None
    assert entry.good_other_than(token(), 0.0) is None


def test_pardon_forgets_every_failure() -> None:
    entry: Entry[object] = Entry(REQUEST, failure=PolicyDenied("no"), failures=3, refused_until=9.0)
    entry.pardon()
    assert (entry.failure, entry.failures, entry.refused_until) == (None, 0, LONG_AGO)


def test_an_entry_prints_no_token() -> None:
    issued = token()
    assert issued.token.reveal() not in repr(Entry(REQUEST, good=issued, flight=issued))


@pytest.mark.parametrize("kind", REQUEST_ERRORS)
def test_an_error_is_raised_again_whole_and_as_another_object(kind: type[IssuerRequestError]) -> None:
    error = kind(
        "no",
        reason="SCOPE_NOT_ALLOWED",
        decision_id="d",
        request_id="r",
        scopes=("a",),
        violations=(errors.Violation("ttl", "is negative"),),
        retry_after=timedelta(seconds=3),
    )
    error.__cause__ = OSError("wire")
    twin = again(error)
    assert twin is not error
    assert type(twin) is kind
    assert vars(twin) == vars(error)
    assert str(twin) == str(error)
    assert twin.__cause__ is error.__cause__
    assert twin.__traceback__ is None


def test_what_is_remembered_of_an_error_holds_on_to_nobody() -> None:
    class Secret:
        pass

    def fail(_: Secret) -> None:
        try:
            int("wire")
        except ValueError as cause:
            raise PolicyDenied("no", decision_id="d") from cause

    def caller() -> tuple[Exception, weakref.ref[Secret]]:
        secret = Secret()
        try:
            fail(secret)
        except PolicyDenied as error:
            return remembered(error), weakref.ref(secret)
        raise AssertionError

    kept, secret = caller()
    gc.collect()
    assert secret() is None
    assert str(kept) == str(PolicyDenied("no", decision_id="d"))
    assert (kept.__traceback__, kept.__cause__, kept.__context__) == (None, None, None)
