"""What many decisions have in common, as plain values. Times are microseconds since 1970 UTC."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from issuer.core.record import DecisionRecord


class Denials(NamedTuple):
    """Refusals with one caller, audience and reason. Times are microseconds since 1970 UTC.

    Attributes:
        newest: The last of them, whole.
        newest_seq: Its number in the ledger.
        erased: Its intent was there and was erased.
    """

    caller: str
    audience: str
    reason: str
    requests: int
    first: int
    last: int
    newest: DecisionRecord
    newest_seq: int
    erased: bool


class Granted(NamedTuple):
    """Tokens that had these rules and scopes in common.

    Attributes:
        rules: The ids of the grants that were used.
        scopes: The scopes that were granted.
    """

    audience: str
    rules: frozenset[str]
    scopes: frozenset[str]


class Counted(NamedTuple):
    """How often, and when last (microseconds since 1970 UTC)."""

    name: str
    requests: int
    last: int


class Top(NamedTuple):
    """Who asks most, for what, and what is alive.

    Attributes:
        callers: By SPIFFE ID, the most first.
        audiences: By audience, the most first.
        alive: Tokens that have not expired, by audience; ``last`` is the latest expiry.
    """

    callers: list[Counted]
    audiences: list[Counted]
    alive: list[Counted]


class ExceptionUse(NamedTuple):
    """How an exception for a legacy application was used. Times are microseconds since 1970 UTC."""

    rules: str
    caller: str
    audience: str
    requests: int
    last: int
    alive_until: int
