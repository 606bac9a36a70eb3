"""Which tokens that have not expired a selector hits, counted by the database."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeAlias

from sqlalchemy import false, func, or_, select

from issuer.core.recorded_tokens import Hits, LivingToken
from issuer.ledger.decision_filter import callers_of, with_word
from issuer.ledger.reading import recorded_tokens
from issuer.ledger.schema import decision, text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from sqlalchemy import ColumnElement, Connection

    from issuer.core.recorded_tokens import RecordedToken
    from issuer.core.revocation import Selector
    from issuer.ledger.reading import LedgerReader

CALLERS_AT_ONCE: Final = 10_000
"""Numbers in one query; SQLite takes 32,766 (https://www.sqlite.org/limits.html, SQLITE_MAX_VARIABLE_NUMBER)."""


def hits(reader: LedgerReader, selector: Selector, now: int, listed: int) -> Hits:
    """Return which living tokens a selector hits; its key is not looked at.

    Args:
        reader: The ledger.
        selector: Of which.
        now: Unix seconds.
        listed: How many tokens and identities to name at most.

    Raises:
        LedgerFault: The ledger cannot be read.
    """
    by_caller: Counter[str] = Counter()
    newest: list[LivingToken] = []
    with reader.connected() as connection:
        for count, some in (_plain(connection, selector, now, listed), _resting(connection, selector, now, listed)):
            by_caller.update(count)
            newest += some
    return Hits(
        tokens=by_caller.total(),
        identities=len(by_caller),
        newest=sorted(newest, key=lambda token: -token.seq)[:listed],
        most=by_caller.most_common(listed),
    )


def resting(reader: LedgerReader, now: int, limit: int) -> list[RecordedToken]:
    """Return living tokens that were made from others, in no order.

    Args:
        reader: The ledger.
        now: Unix seconds.
        limit: How many at most.

    Raises:
        LedgerFault: The ledger cannot be read.
    """
    with reader.connected() as connection:
        found = recorded_tokens(connection, [*living(now), decision.c.origin.is_not(None)])
        return list(islice(found, limit))


def last_expiry(reader: LedgerReader, before: int) -> int | None:
    """Return the latest ``exp`` of tokens that were decided before a moment; ``None`` where there is none.

    Args:
        reader: The ledger.
        before: Microseconds since 1970 UTC.

    Raises:
        LedgerFault: The ledger cannot be read.
    """
    ends = decision.c.expires_at
    last = select(ends).where(decision.c.token_id.is_not(None), decision.c.time < before).order_by(ends.desc()).limit(1)
    with reader.connected() as connection:
        return connection.scalar(last)


_Found: TypeAlias = tuple["Counter[str]", "list[LivingToken]"]
"""How many tokens of which caller are hit, and the newest of them."""


def _plain(connection: Connection, selector: Selector, now: int, listed: int) -> _Found:
    """Count those that rest on nothing but their caller's right, in the database."""
    by_caller: Counter[int] = Counter()
    newest: list[tuple[int, str, int, int, int]] = []
    for conditions in conditions_of(connection, selector, now):
        counted = select(decision.c.caller, func.count()).where(*conditions).group_by(decision.c.caller)
        by_caller.update(dict(map(tuple, connection.execute(counted))))
        columns = (decision.c[name] for name in ("seq", "token_id", "caller", "audience", "expires_at"))
        found = select(*columns).where(*conditions).order_by(decision.c.seq.desc()).limit(listed)
        newest = sorted((*newest, *map(tuple, connection.execute(found))), reverse=True)[:listed]
    told = _texts(connection, by_caller.keys() | {number for row in newest for number in row[2:4]})
    living = [
        LivingToken(seq, token, told[caller], told[audience], end) for seq, token, caller, audience, end in newest
    ]
    return Counter({told[caller]: count for caller, count in by_caller.items()}), living


def _resting(connection: Connection, selector: Selector, now: int, listed: int) -> _Found:
    """Look at each of those that rest on something more: few, and what is above them is in no column."""
    rests: ColumnElement[bool] = decision.c.origin.is_not(None)
    if selector.basis is not None:
        rests = or_(rests, decision.c.approval.is_not(None))
    by_caller: Counter[str] = Counter()
    newest: list[LivingToken] = []
    for token in recorded_tokens(connection, [*living(now), rests]):
        issued = token.issued
        if replace(selector, key=None).hits(issued):
            by_caller[str(issued.caller)] += 1
            newest.append(
                LivingToken(token.seq, issued.token_id, str(issued.caller), issued.audience, token.expires_at)
            )
    return by_caller, sorted(newest, key=lambda token: -token.seq)[:listed]


def _texts(connection: Connection, numbers: Collection[int]) -> dict[int, str]:
    told: dict[int, str] = {}
    ordered = sorted(numbers)
    for start in range(0, len(ordered), CALLERS_AT_ONCE):
        some = ordered[start : start + CALLERS_AT_ONCE]
        told.update(dict(map(tuple, connection.execute(select(text.c.id, text.c.value).where(text.c.id.in_(some))))))
    return told


def living(now: int) -> list[ColumnElement[bool]]:
    """Return what rows of tokens that have not expired fulfil."""
    return [decision.c.token_id.is_not(None), decision.c.expires_at > now]


def conditions_of(connection: Connection, selector: Selector, now: int) -> Iterator[Sequence[ColumnElement[bool]]]:
    """Yield what rows of tokens that a selector hits fulfil, in parts that have no row in common.

    Its key is not looked at. Left out are tokens that rest on something: those have to be looked at one by one.
    """
    if selector.basis is not None:
        return
    plain = [*living(now), decision.c.origin.is_(None), *_exact(connection, selector)]
    if selector.workload is None:
        yield plain
        return
    callers = callers_of(connection, selector.workload.text)
    for start in range(0, len(callers), CALLERS_AT_ONCE):
        yield [*plain, decision.c.caller.in_(callers[start : start + CALLERS_AT_ONCE])]


def _exact(connection: Connection, selector: Selector) -> Iterator[ColumnElement[bool]]:
    if selector.token is not None:
        yield decision.c.token_id == selector.token
    for name in ("audience", "application", "policy"):
        if (value := getattr(selector, name)) is not None:
            number = connection.scalar(select(text.c.id).where(text.c.value == value))
            yield false() if number is None else decision.c[name] == number
    if selector.rule is not None:
        yield decision.c.rules.in_(with_word(selector.rule))
    if selector.issued_from is not None:
        yield decision.c.time >= selector.issued_from
    if selector.issued_until is not None:
        yield decision.c.time < selector.issued_until
