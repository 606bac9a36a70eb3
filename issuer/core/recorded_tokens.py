"""Tokens as the ledger knows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from issuer.core.revocation import Issued


class RevokedToken(NamedTuple):
    """A single token that was revoked: by which change, its ``jti``, its ``exp`` and its audience."""

    version: int
    token_id: str
    expires_at: int
    audience: str


@dataclass(frozen=True, slots=True)
class LivingToken:
    """A token that has not expired: its decision's ``seq``, ``jti``, subject, audience, and ``exp`` in Unix seconds."""

    seq: int

    token_id: str
    caller: str
    audience: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class Hits:
    """The living tokens that a selector hits.

    Attributes:
        tokens: How many.
        identities: How many SPIFFE IDs have them.
        newest: The newest of them.
        most: The SPIFFE IDs with the most of them, and how many.
    """

    tokens: int
    identities: int
    newest: Sequence[LivingToken]
    most: Sequence[tuple[str, int]]


class RecordedToken(NamedTuple):
    """A token as the ledger knows it: its decision's ``seq``, its ``exp``, and what revocations can tell of it.

    The key that signed it is not recorded. ``status`` is its :attr:`~issuer.core.status_index.StatusIndex.number`.
    """

    seq: int
    expires_at: int
    issued: Issued
    status: int | None = None
