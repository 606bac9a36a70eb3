"""Tokens, callers and requests for the tests of the cache: values that need no issuer."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from agent_client.access_token import AccessToken
from agent_client.answers import IssuedToken
from agent_client.requests import TokenRequest
from agent_client.token_checks import CallerIdentity
from agent_client.tokens.entry import Arrival

if TYPE_CHECKING:
    from agent_client.tokens.cache import TokenCache
    from agent_client.tokens.entry import Entry

AUDIENCE = "https://ledger.dev.test"
SETTLER = CallerIdentity("spiffe://dev.test/settler", b"1" * 32)
SETTLER_ROTATED = CallerIdentity("spiffe://dev.test/settler", b"2" * 32)
READER = CallerIdentity("spiffe://dev.test/reader", b"3" * 32)
ISSUED_AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
REQUEST = TokenRequest(AUDIENCE, ["ledger.read"])
_numbers = itertools.count()


def token(
    lifetime: float = 300.0, advised: float = 60.0, *, bound: bool = False, approval: str | None = None
) -> IssuedToken:
    """Return a token that lives ``lifetime`` seconds, to be renewed after ``advised`` of them; no two are alike."""
    name = f"token-{next(_numbers)}"
    return IssuedToken(
        token=AccessToken(name),
        token_type="Bearer",
        expires_at=ISSUED_AT + timedelta(seconds=lifetime),
        renew_at=ISSUED_AT + timedelta(seconds=advised),
        scopes=("ledger.read",),
        refused_scopes=(),
        token_id=name,
        decision_id=name,
        application=None,
        issued_at=ISSUED_AT,
        certificate_bound=bound,
        approval_request=approval,
    )


def arrival(issued: IssuedToken, sent_at: float, caller: CallerIdentity = SETTLER) -> Arrival:
    """Return what a call brought."""
    return Arrival(issued, caller, sent_at)


def request_number(number: int) -> TokenRequest:
    """Return one of many requests, no two of which share a token."""
    return TokenRequest(f"{AUDIENCE}/{number}", ["ledger.read"])


class Keeper:
    """Stands for a source with keep_fresh."""


class Flight:
    """Stands for a call."""


def fetch(cache: TokenCache[Flight], entry: Entry[Flight], now: float = 0.0, **of_token: Any) -> IssuedToken:
    """Fetch a token as the settler, and return it."""
    issued = token(**of_token)
    cache.take_off(entry, Flight())
    assert cache.arrived(entry, arrival(issued, now), SETTLER, now)
    return issued


def fail(cache: TokenCache[Flight], entry: Entry[Flight], error: Exception, now: float) -> None:
    cache.take_off(entry, Flight())
    cache.failed(entry, error, now)
