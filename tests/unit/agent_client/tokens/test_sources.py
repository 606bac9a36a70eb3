"""What sources promise, in threads and in an event loop alike. The test is the issuer."""

from __future__ import annotations

import gc
import logging
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support.eventually import eventually
from support.kept_tokens import READER, REQUEST, SETTLER_ROTATED, request_number, token
from support.scripted_tokens import CLIENT_SECONDS, WITHIN, InALoop, InThreads, Script

from agent_client.errors import ClientClosed, IssuerTimedOut, IssuerUnavailable, LimitExceeded, PolicyDenied
from agent_client.requests import TokenRequest
from agent_client.tokens.sync import RENEWALS_AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from support.scripted_tokens import Call

DUE = 58.0
"""A token of 300 s that was asked for so many seconds ago is to be renewed now, whatever its place in the spread."""
AWAY = IssuerUnavailable("away")


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture(params=[InThreads, InALoop], ids=["threads", "asyncio"])
def sources(request: pytest.FixtureRequest, script: Script) -> Iterator[InThreads | InALoop]:
    made: InThreads | InALoop = request.param(script)
    yield made
    script.end()
    made.end()


Sources = InThreads | InALoop


def bring_new(call: Call) -> None:
    call.bring()


# --- One call for all


def test_thousands_who_ask_first_make_one_call(sources: Sources, script: Script) -> None:
    source = sources.source(REQUEST)
    asked = sources.ask_many(source, sources.MANY)
    issued = script.call().bring()
    assert all(answer.result(WITHIN) is issued for answer in asked)
    assert script.begun == 1


def test_a_refusal_is_told_to_all_who_wait_each_with_an_error_of_its_own(sources: Sources, script: Script) -> None:
    source = sources.source(REQUEST)
    asked = sources.ask_many(source, 50)
    call = script.call()
    denied = PolicyDenied("no", decision_id="d-1")
    call.fail(denied)
    errors = [answer.exception(WITHIN) for answer in asked]
    assert {type(error) for error in errors} == {PolicyDenied}
    assert len({id(error) for error in errors}) == len(errors)
    assert {str(error) for error in errors} == {str(denied)}
    assert script.begun == 1


def test_a_refusal_is_not_asked_again_by_the_next(sources: Sources, script: Script) -> None:
    script.on_call = lambda call: call.fail(LimitExceeded("later", retry_after=timedelta(minutes=1)))
    source = sources.source(REQUEST)
    for _ in range(1000):
        with pytest.raises(LimitExceeded):
            sources.get(source)
    assert script.begun == 1


def test_an_error_that_nobody_foresaw_is_told_to_all_too(sources: Sources, script: Script) -> None:
    asked = sources.ask_many(sources.source(REQUEST), 5)
    script.call().fail(ZeroDivisionError("a defect"))
    for answer in asked:
        if isinstance(answer.exception(WITHIN), ZeroDivisionError):
            continue
        raise AssertionError


def test_who_has_more_time_than_who_asked_first_goes_on(sources: Sources, script: Script) -> None:
    source = sources.source(REQUEST)
    leader = sources.ask(source, timeout=0.5)
    first = script.call()
    assert first.seconds <= 0.5
    waiters = [sources.ask(source, timeout=WITHIN) for _ in range(5)]
    first.fail(IssuerTimedOut("no answer before the deadline"))
    assert isinstance(leader.exception(WITHIN), IssuerTimedOut)
    second = script.call()
    issued = second.bring()
    assert all(waiter.result(WITHIN) is issued for waiter in waiters)
    assert script.begun == 2


def test_who_has_less_time_than_who_asked_first_does_not_wait_for_it(sources: Sources, script: Script) -> None:
    source = sources.source(REQUEST)
    leader = sources.ask(source)
    call = script.call()
    with pytest.raises(IssuerTimedOut):
        sources.get(source, timeout=0.05)
    issued = call.bring()
    assert leader.result(WITHIN) is issued
    assert script.begun == 1


def test_what_arrives_for_whom_this_workload_is_no_more_is_asked_for_anew(sources: Sources, script: Script) -> None:
    asked = sources.ask_many(sources.source(REQUEST), 5)
    call = script.call()
    script.caller = READER
    sources.do(sources.tokens.caller_changed)
    call.bring()
    issued = script.call().bring()
    assert all(answer.result(WITHIN) is issued for answer in asked)


def test_an_identity_that_changes_with_each_call_ends_at_the_deadline(sources: Sources, script: Script) -> None:
    def bring_and_become_another(call: Call) -> None:
        script.caller = READER if call.caller is not READER else SETTLER_ROTATED
        call.bring()

    script.on_call = bring_and_become_another
    with pytest.raises(IssuerTimedOut, match="before the deadline"):
        sources.get(sources.source(REQUEST), timeout=0.2)


def test_sources_of_one_request_share_a_token_and_those_of_others_do_not(sources: Sources, script: Script) -> None:
    script.on_call = bring_new
    issued = sources.get(sources.source(REQUEST))
    assert sources.get(sources.source(TokenRequest(REQUEST.audience, ["ledger.read"]))) is issued
    assert sources.get(sources.source(request_number(1))) is not issued
    assert script.begun == 2


def test_a_source_prints_its_request_and_no_token(sources: Sources, script: Script) -> None:
    script.on_call = bring_new
    source = sources.source(REQUEST)
    issued = sources.get(source)
    assert REQUEST.audience in repr(source)
    assert issued.token.reveal() not in repr(source)


# --- Renewal


def test_a_token_is_renewed_while_it_is_used_and_nobody_waits(sources: Sources, script: Script) -> None:
    source = sources.source(REQUEST)
    asked = sources.ask(source)
    first = script.call().bring(age=DUE)
    assert asked.result(WITHIN) is first
    assert sources.get(source) is first
    renewal = script.call()
    assert renewal.seconds == CLIENT_SECONDS
    for _ in range(100):
        assert sources.get(source) is first
    second = renewal.bring()
    assert eventually(lambda: sources.get(source) is second)
    assert script.begun == 2


def test_a_renewal_gets_less_time_the_less_the_token_has_left(sources: Sources, script: Script) -> None:
    source = sources.source(REQUEST, keep_fresh=True)
    asked = sources.ask(source)
    first = script.call().bring(age=260.0)
    assert asked.result(WITHIN) is first
    assert script.call().seconds <= 40 / 8


def test_what_nobody_uses_is_not_renewed(sources: Sources, script: Script) -> None:
    unused, kept = sources.source(request_number(1)), sources.source(request_number(2), keep_fresh=True)
    for source in (unused, kept):
        asked = sources.ask(source)
        script.call().bring(age=DUE)
        asked.result(WITHIN)
    assert script.call().request == kept.request
    assert script.no_call()


def test_a_renewal_that_fails_keeps_the_token_and_is_logged_once(
    sources: Sources, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "agent_client.tokens")
    source = sources.source(REQUEST, keep_fresh=True)
    asked = sources.ask(source)
    first = script.call().bring(age=DUE)
    assert asked.result(WITHIN) is first
    for error in (AWAY, PolicyDenied("no")):
        script.call().fail(error)
        assert sources.get(source) is first
    last = script.call()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    last.bring()
    eventually(lambda: len(caplog.records) == 2)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert REQUEST.audience in caplog.text
    assert first.token.reveal() not in caplog.text


def test_renewals_that_hang_block_nobody_and_are_eight_at_most(sources: Sources, script: Script) -> None:
    kept = [sources.source(request_number(number), keep_fresh=True) for number in range(2 * RENEWALS_AT_ONCE)]
    held: list[Call] = []
    known: set[TokenRequest] = set()

    def first_bring_then_hold(call: Call) -> None:
        if call.request in known:
            held.append(call)
        else:
            known.add(call.request)
            call.bring(age=DUE)

    script.on_call = first_bring_then_hold
    issued = [sources.get(source) for source in kept]
    eventually(lambda: len(held) == RENEWALS_AT_ONCE)
    assert [sources.get(source) for source in kept] == issued
    other = sources.ask(sources.source(request_number(99)))
    assert other.result(WITHIN)
    assert len(held) == RENEWALS_AT_ONCE
    assert script.most_at_once <= RENEWALS_AT_ONCE + 1
    script.on_call = bring_new
    for call in held:
        call.bring()
    eventually(lambda: all(sources.get(source) is not before for source, before in zip(kept, issued, strict=True)))


def test_a_renewal_that_hangs_does_not_delay_another(sources: Sources, script: Script) -> None:
    """The second one is due when the first one is under way, and nobody asks for it then."""
    hung, other = (sources.source(request_number(number), keep_fresh=True) for number in range(2))
    asked = sources.ask(hung)
    script.call().bring(age=DUE)
    asked.result(WITHIN)
    assert script.call().request == hung.request
    asked = sources.ask(other)
    script.call().bring(token(lifetime=1.0, advised=0.0))
    asked.result(WITHIN)
    assert script.call(within=WITHIN / 2).request == other.request


def test_a_source_that_is_dropped_ends_its_renewals(sources: Sources, script: Script) -> None:
    source = sources.source(REQUEST, keep_fresh=True)
    asked = sources.ask(source)
    script.call().bring(token(lifetime=1.0, advised=0.0))
    asked.result(WITHIN)
    del source, asked
    gc.collect()
    eventually(lambda: len(sources.tokens._cache._plan) == 0)
    assert script.no_call()
    eventually(lambda: gc.collect() >= 0 and len(sources.tokens._cache._entries) == 0)


# --- Refused, replaced


def test_a_refused_token_is_replaced(sources: Sources, script: Script) -> None:
    script.on_call = bring_new
    source = sources.source(REQUEST)
    refused = sources.get(source)
    sources.do(lambda: source.invalidate(refused))
    second = sources.get(source)
    assert second is not refused
    sources.do(lambda: source.invalidate(second))
    sources.do(lambda: source.invalidate(refused))
    assert sources.get(source) is second
    assert script.begun == 2


def test_another_certificate_replaces_what_is_bound_to_the_one_before(sources: Sources, script: Script) -> None:
    bound, free = sources.source(request_number(1)), sources.source(request_number(2))
    script.on_call = lambda call: call.bring(token(bound=call.request == bound.request))
    before = [sources.get(source) for source in (bound, free, bound)]
    script.caller = SETTLER_ROTATED
    sources.do(sources.tokens.caller_changed)
    assert sources.get(bound) is not before[0]
    assert sources.get(free) is before[1]


def test_who_waits_for_the_next_token_gets_it(sources: Sources, script: Script) -> None:
    source = sources.source(REQUEST, keep_fresh=True)
    asked = sources.ask(source)
    first = script.call().bring(age=DUE)
    asked.result(WITHIN)
    waiting = sources.wait_for_next(source, first, float("inf"))
    second = script.call().bring()
    assert waiting.result(WITHIN) is second
    assert sources.wait_for_next(source, first, 0.0).result(WITHIN) is second
    assert sources.wait_for_next(source, second, 0.05).result(WITHIN) is None
    sources.do(lambda: source.invalidate(second))
    assert sources.wait_for_next(source, first, 0.05).result(WITHIN) is None


def test_the_next_token_is_never_one_that_has_ended(sources: Sources, script: Script) -> None:
    source = sources.source(REQUEST)
    asked = sources.ask(source)
    ended = script.call().bring(token(lifetime=0.2))
    assert asked.result(WITHIN) is ended
    eventually(lambda: sources.wait_for_next(source, token(), 0.0).result(WITHIN) is None)


def test_a_request_that_brings_no_token_has_no_source(sources: Sources) -> None:
    with pytest.raises(ValueError, match="validate_only"):
        sources.source(TokenRequest(REQUEST.audience, ["a"], validate_only=True))
    assert sources.source(REQUEST).request == REQUEST


# --- The end


def test_closing_ends_every_wait(sources: Sources, script: Script, caplog: pytest.LogCaptureFixture) -> None:
    kept, other = sources.source(request_number(1), keep_fresh=True), sources.source(request_number(2))
    asked = sources.ask(kept)
    first = script.call().bring(age=DUE)
    asked.result(WITHIN)
    renewal = script.call()
    waiting: list[Future[Any]] = [sources.wait_for_next(kept, first, 600.0)]
    leader = sources.ask(other, timeout=WITHIN)
    call = script.call()
    waiting += sources.ask_many(other, 5)
    eventually(lambda: waits(sources) >= 7)
    sources.close()
    for wait in waiting:
        assert isinstance(wait.exception(WITHIN), ClientClosed)
    call.bring()  # whatever it still brings
    renewal.fail(ClientClosed("this client was closed during the call"))
    assert isinstance(leader.exception(WITHIN), ClientClosed)
    assert script.begun == 3
    assert not caplog.records


def waits(sources: Sources) -> int:
    if isinstance(sources, InALoop):
        return sources.tasks() - 2
    return sum(thread.name.startswith("asker-") for thread in threading.enumerate())


def test_a_closed_client_hands_out_nothing(sources: Sources, script: Script) -> None:
    script.on_call = bring_new
    source = sources.source(REQUEST)
    known = sources.get(source)
    sources.close()
    with pytest.raises(ClientClosed):
        sources.get(source)
    assert isinstance(sources.wait_for_next(source, known, WITHIN).exception(WITHIN), ClientClosed)
    sources.do(sources.tokens.caller_changed)
    sources.close()
    assert script.begun == 1


def test_nothing_runs_after_closing(sources: Sources, script: Script) -> None:
    kept = [sources.source(request_number(number), keep_fresh=True) for number in range(10)]
    script.on_call = lambda call: call.bring(token(lifetime=2.0, advised=0.0))
    for source in kept:
        sources.get(source)
    eventually(lambda: script.begun > 20)
    sources.close()
    if isinstance(sources, InALoop):
        assert sources.tasks() == 0
    else:
        eventually(lambda: sources.tokens._renewers == 0)
        eventually(lambda: not any(thread.name == "token-renewal" for thread in threading.enumerate()))
    begun = script.begun
    for source in kept:
        with pytest.raises(ClientClosed):
            sources.get(source)
    assert script.begun == begun


def test_the_child_of_a_fork_begins_with_nothing(sources: Sources, script: Script) -> None:
    """What the hook does, without the fork."""
    script.on_call = bring_new
    source = sources.source(REQUEST)
    parents = sources.get(source)
    if isinstance(sources, InALoop):
        sources.do(sources.tokens.forget)
    else:
        assert sources.tokens._lock.acquire()  # by a thread that is not there any more
        sources.tokens.forget()
    assert sources.get(source) is not parents
    assert sources.get(source) is not parents
    assert script.begun == 2
