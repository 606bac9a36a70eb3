"""Tokens, callers and requests for the tests of the cache: values that need no issuer."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from agent_client.access_token import AccessToken
from agent_client.answers import IssuedToken
from agent_client.requests import TokenRequest
from agent_client.token_checks import CallerIdentity
from agent_client.tokens.entry import Arrival

AUDIENCE = "https://ledger.dev.test"
SETTLER = CallerIdentity("spiffe://dev.test/settler", b"1" * 32)
SETTLER_ROTATED = CallerIdentity("spiffe://dev.test/settler", b"2" * 32)
READER = CallerIdentity("spiffe://dev.test/reader", b"3" * 32)
ISSUED_AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
REQUEST = TokenRequest(AUDIENCE, ["ledger.read"])
_numbers = itertools.count()


def token(lifetime: float = 300.0, advised: float = 60.0, *, bound: bool = False) -> IssuedToken:
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
    )


def arrival(issued: IssuedToken, sent_at: float, caller: CallerIdentity = SETTLER) -> Arrival:
    """Return what a call brought."""
    return Arrival(issued, caller, sent_at)


def request_number(number: int) -> TokenRequest:
    """Return one of many requests, no two of which share a token."""
    return TokenRequest(f"{AUDIENCE}/{number}", ["ledger.read"])
