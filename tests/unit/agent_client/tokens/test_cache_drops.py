"""What ends a token before its time: a resource server that refuses it, another identity of the workload."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from support.kept_tokens import (
    AUDIENCE,
    READER,
    REQUEST,
    SETTLER,
    SETTLER_ROTATED,
    Flight,
    Keeper,
    arrival,
    fail,
    fetch,
    request_number,
    token,
)

from agent_client.errors import (
    IssuerUnavailable,
    LimitExceeded,
    PolicyDenied,
    SvidExpiresSoon,
    SvidRejected,
)
from agent_client.requests import Intent, TokenRequest
from agent_client.tokens.cache import REFUSALS_APART, TokenCache
from agent_client.workload_api_errors import WorkloadApiUnavailable

if TYPE_CHECKING:
    from agent_client.tokens.entry import Entry

DENIED = PolicyDenied("no", decision_id="d")
AWAY = IssuerUnavailable("away")
ONE_TIME = TokenRequest(AUDIENCE, ["ledger.read"], intent=Intent(ticket="CHG-1"))


@pytest.fixture
def cache() -> TokenCache[Flight]:
    return TokenCache()


@pytest.fixture
def entry(cache: TokenCache[Flight]) -> Entry[Flight]:
    return cache.entry(REQUEST)


def test_another_certificate_drops_what_is_bound_to_the_one_before_and_nothing_else(cache: TokenCache[Flight]) -> None:
    bound, free = cache.entry(request_number(1)), cache.entry(request_number(2))
    fetch(cache, bound, bound=True)
    issued = fetch(cache, free)
    cache.look(bound, 0.0)
    cache.caller_changed(SETTLER_ROTATED, 10.0)
    assert cache.look(free, 10.0) is issued
    assert cache.due(10.0) is bound
    assert cache.look(bound, 10.0) is None


def test_another_identity_drops_all(cache: TokenCache[Flight]) -> None:
    used, idle, empty = (cache.entry(request_number(number)) for number in range(3))
    fetch(cache, used)
    fetch(cache, idle)
    cache.look(used, 1.0)
    cache.caller_changed(READER, 10.0)
    assert cache.look(used, 10.0) is cache.look(idle, 10.0) is cache.look(empty, 10.0) is None
    assert cache.due(10.0) is used


def test_nobody_has_tokens(cache: TokenCache[Flight], entry: Entry[Flight]) -> None:
    fetch(cache, entry)
    cache.caller_changed(None, 10.0)
    assert entry.good is None
    cache.take_off(entry, Flight())
    assert not cache.arrived(entry, arrival(token(), 10.0), None, 10.0)
    assert entry.good is None


def test_the_same_identity_changes_nothing(cache: TokenCache[Flight], entry: Entry[Flight]) -> None:
    issued = fetch(cache, entry, bound=True)
    cache.caller_changed(SETTLER, 10.0)
    assert cache.look(entry, 10.0) is issued


@pytest.mark.parametrize(
    ("bound", "present", "usable"),
    [
        (False, SETTLER, True),
        (True, SETTLER, True),
        (False, SETTLER_ROTATED, True),
        (True, SETTLER_ROTATED, False),
        (False, READER, False),
        (True, READER, False),
        (False, None, False),
    ],
)
def test_what_arrives_for_whom_this_workload_is_no_more_is_not_handed_out(
    cache: TokenCache[Flight], entry: Entry[Flight], present: object, *, bound: bool, usable: bool
) -> None:
    cache.take_off(entry, Flight())
    arrived = cache.arrived(entry, arrival(token(bound=bound), 0.0), present, 0.0)  # type: ignore[arg-type]
    assert arrived is usable
    assert (cache.look(entry, 0.0) is not None) is usable


def test_what_is_kept_fresh_goes_on_after_a_change_during_its_renewal(
    cache: TokenCache[Flight], entry: Entry[Flight]
) -> None:
    keeper = Keeper()
    entry.keepers.add(keeper)
    fetch(cache, entry, bound=True)
    cache.take_off(entry, Flight())
    cache.caller_changed(SETTLER_ROTATED, 50.0)
    assert cache.due(50.0) is None
    assert not cache.arrived(entry, arrival(token(bound=True), 49.0), SETTLER_ROTATED, 51.0)
    assert cache.due(52.0) is entry


def test_an_arrival_tells_what_nobody_else_told_yet(cache: TokenCache[Flight]) -> None:
    before, after = cache.entry(request_number(1)), cache.entry(request_number(2))
    fetch(cache, before)
    cache.take_off(after, Flight())
    assert cache.arrived(after, arrival(token(), 1.0, READER), READER, 1.0)
    assert cache.look(before, 1.0) is None


def test_another_identity_has_none_of_the_refusals(cache: TokenCache[Flight], entry: Entry[Flight]) -> None:
    cache.caller_changed(SETTLER, 0.0)
    fail(cache, entry, PolicyDenied("no", retry_after=timedelta(hours=1)), 0.0)
    cache.caller_changed(READER, 1.0)
    assert cache.look(entry, 1.0) is None
    assert entry.failures == 0


def test_a_refusal_of_whom_this_workload_was_when_it_asked_is_not_kept(
    cache: TokenCache[Flight], entry: Entry[Flight]
) -> None:
    keeper = Keeper()
    entry.keepers.add(keeper)
    cache.caller_changed(SETTLER, 0.0)
    cache.take_off(entry, Flight())
    cache.caller_changed(READER, 1.0)
    cache.failed(entry, DENIED, 2.0)
    assert cache.look(entry, 2.0) is None
    assert cache.due(2.0) is entry
    fail(cache, entry, DENIED, 3.0)
    with pytest.raises(PolicyDenied):
        cache.look(entry, 3.0)


@pytest.mark.parametrize(
    ("error", "held"),
    [(DENIED, True), (LimitExceeded("later"), True), (SvidRejected("odd"), False), (SvidExpiresSoon("soon"), False)],
)
def test_another_certificate_ends_the_refusals_of_the_one_before_and_no_others(
    cache: TokenCache[Flight], entry: Entry[Flight], error: Exception, *, held: bool
) -> None:
    cache.caller_changed(SETTLER, 0.0)
    fail(cache, entry, error, 0.0)
    cache.caller_changed(SETTLER_ROTATED, 0.1)
    if held:
        with pytest.raises(type(error)):
            cache.look(entry, 0.1)
    else:
        assert cache.look(entry, 0.1) is None


def test_an_identity_that_comes_ends_the_pauses_of_what_had_none(
    cache: TokenCache[Flight], entry: Entry[Flight]
) -> None:
    keeper = Keeper()
    entry.keepers.add(keeper)
    for _ in range(9):
        fail(cache, entry, WorkloadApiUnavailable("no agent"), 0.0)
    assert cache.due(1.0) is None
    cache.caller_changed(SETTLER, 1.0)
    assert cache.due(1.0) is entry


def test_the_first_identity_ends_no_refusal(cache: TokenCache[Flight], entry: Entry[Flight]) -> None:
    """Nobody told who this was until the first token arrived."""
    fail(cache, entry, LimitExceeded("later", retry_after=timedelta(minutes=1)), 0.0)
    fetch(cache, cache.entry(request_number(1)))
    with pytest.raises(LimitExceeded):
        cache.look(entry, 59.9)


# --- Tokens that a resource server refused


def test_a_refused_token_is_handed_out_no_more(cache: TokenCache[Flight], entry: Entry[Flight]) -> None:
    refused = fetch(cache, entry)
    cache.invalidate(entry, refused, 10.0)
    assert cache.look(entry, 10.0) is None
    assert entry.fresh_until < 10.0


def test_a_refusal_of_another_token_changes_nothing(cache: TokenCache[Flight], entry: Entry[Flight]) -> None:
    before = fetch(cache, entry)
    issued = fetch(cache, entry, 20.0)
    cache.invalidate(entry, before, 21.0)
    assert cache.look(entry, 21.0) is issued


def test_a_server_that_refuses_every_token_costs_one_token_in_a_while(
    cache: TokenCache[Flight], entry: Entry[Flight]
) -> None:
    cache.invalidate(entry, fetch(cache, entry, 10.0), 10.0)
    issued = fetch(cache, entry, 10.0)
    cache.invalidate(entry, issued, 10.0 + REFUSALS_APART - 0.01)
    assert cache.look(entry, 15.0) is issued
    cache.invalidate(entry, issued, 10.0 + REFUSALS_APART)
    assert cache.look(entry, 15.0) is None
