"""Verified tokens, and news of dead ones, for unit tests of what a resource server knows of revocations."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from agent_client.verification import VerifiedToken
from agent_client.verification.revocations_news import DeadIds, DeadKind, RevocationNews, WatchBeginning

ISSUER, AUDIENCE = "https://issuer.test", "https://api.test"
SUBJECT = "spiffe://prod.example/ns/payments/sa/settler"
KEY = "key-1"
FIRST = "t1"
NOW = 1_800_000_000
"""Unix seconds."""


def token(token_id: str = FIRST, *, issued_at: int = NOW, **fields: Any) -> VerifiedToken:
    """Return what a verified token says."""
    usual = VerifiedToken(
        ISSUER,
        SUBJECT,
        SUBJECT,
        AUDIENCE,
        ("read",),
        token_id,
        "payments",
        None,
        False,  # noqa: FBT003 - a named tuple, by position
        MappingProxyType({"iat": issued_at}),
    )
    return usual._replace(**fields)


def beginning(*, resumed: bool = False, **fields: Any) -> RevocationNews:
    """Return the first message of a stream."""
    usual: dict[str, Any] = {"issuer": ISSUER, "ledger": "ledger-1", "audiences": frozenset({AUDIENCE})}
    return RevocationNews(beginning=WatchBeginning(**usual | fields, resumed=resumed))


def dead(*token_ids: str, end: int = NOW + 600) -> RevocationNews:
    """Return that single tokens are dead."""
    return RevocationNews(ids=(DeadIds(token_ids, (end,) * len(token_ids)),))


def dead_kind(revocation_id: str = "r1", **fields: Any) -> RevocationNews:
    """Return that a kind of token is dead."""
    return RevocationNews(kinds=(DeadKind(revocation_id, **fields),))


def position(version: int) -> RevocationNews:
    """Return that all was told."""
    return RevocationNews(version=version)
