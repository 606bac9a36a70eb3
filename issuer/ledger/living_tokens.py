"""Which tokens that have not expired a selector hits, counted by the database."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from sqlalchemy import false, func, select

from issuer.core.recorded_tokens import Hits, LivingToken
from issuer.ledger.decision_filter import callers_of, with_word
from issuer.ledger.schema import decision, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import ColumnElement, Connection

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
    by_caller: Counter[int] = Counter()
    newest: list[tuple[int, str, int, int, int]] = []
    with reader.connected() as connection:
        for conditions in _conditions(connection, selector, now):
            counted = select(decision.c.caller, func.count()).where(*conditions).group_by(decision.c.caller)
            by_caller.update(dict(map(tuple, connection.execute(counted))))
            columns = (
                decision.c.seq,
                decision.c.token_id,
                decision.c.caller,
                decision.c.audience,
                decision.c.expires_at,
            )
            found = select(*columns).where(*conditions).order_by(decision.c.seq.desc()).limit(listed)
            newest = sorted((*newest, *map(tuple, connection.execute(found))), reverse=True)[:listed]
        most = by_caller.most_common(listed)
        numbers = {number for row in newest for number in row[2:4]} | {caller for caller, _ in most}
        query = select(text.c.id, text.c.value).where(text.c.id.in_(sorted(numbers)))
        told: dict[int, str] = dict(map(tuple, connection.execute(query)))
    return Hits(
        tokens=by_caller.total(),
        identities=len(by_caller),
        newest=[
            LivingToken(seq, token, told[caller], told[audience], end) for seq, token, caller, audience, end in newest
        ],
        most=[(told[caller], count) for caller, count in most],
    )


def _conditions(connection: Connection, selector: Selector, now: int) -> Iterator[Sequence[ColumnElement[bool]]]:
    """Yield what rows have to fulfil, in parts that have no row in common."""
    plain = [decision.c.token_id.is_not(None), decision.c.expires_at > now, *_exact(connection, selector)]
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
