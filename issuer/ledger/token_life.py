"""What the ledger tells of a token beside the decision that led to it: what it rested on, and what killed it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from sqlalchemy import or_, select

from issuer.core.ledger_entries import REVOCATION_MADE, STEPS, STEPS_OF, Event
from issuer.ledger.reading import recorded_tokens, revocation_from_row
from issuer.ledger.schema import decision, event, revocation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import ColumnElement, Connection

    from issuer.core.recorded_tokens import RecordedToken
    from issuer.ledger.reading import LedgerReader

MAX_EVENTS: Final = 1_000
"""Of each kind; nobody reads more, and an approval or a window has a few dozen steps."""
SKEW_MICROSECONDS: Final = 60_000_000
"""So far behind may the clock of the issuer that revoked have been."""


def life_of(reader: LedgerReader, token_id: str) -> list[Event]:
    """Return what happened to what a token rested on, and to itself, in the order of its times.

    The steps of an approval, an intent or a window of access are told as they are chained; of a revocation that killed
    the token or one above it, its id and why it was made.

    Raises:
        LedgerFault: The ledger cannot be read.
    """
    with reader.connected() as connection:
        found = next(recorded_tokens(connection, [decision.c.token_id == token_id]), None)
        if found is None:
            return []
        events = [*_steps(connection, found), *_kills(connection, found)]
    return sorted(events, key=lambda each: each.time)


def _steps(connection: Connection, token: RecordedToken) -> Iterator[Event]:
    names = [name.partition("/") for each in token.issued.line for name in each.basis]
    known = [(STEPS_OF[of], name) for of, _, name in names if of in STEPS_OF]
    if not known:
        return
    texts = [event.c.detail.contains(f'"{member}":"{name}"', autoescape=True) for member, name in known]
    query = select(event).where(event.c.kind.in_(STEPS), or_(*texts)).order_by(event.c.seq).limit(MAX_EVENTS)
    for row in connection.execute(query):
        yield Event(row.kind, row.time, row.actor, row.detail)


def _kills(connection: Connection, token: RecordedToken) -> Iterator[Event]:
    begun = token.issued.time - SKEW_MICROSECONDS
    query = select(revocation).where(revocation.c.time >= begun, or_(*_maybe(token))).order_by(revocation.c.version)
    for row in connection.execute(query.limit(MAX_EVENTS)):
        made = revocation_from_row(row)
        if made.selector.token is not None or made.kills(token.issued, token.seq):
            told = json.dumps({"id": made.id, "why": made.why})
            yield Event(REVOCATION_MADE, made.time, made.actor, told)


def _maybe(token: RecordedToken) -> Iterator[ColumnElement[bool]]:
    """Yield what a revocation that hits the token has: it names no single token, or one of these."""
    yield revocation.c.expires_at.is_(None)
    for each in token.issued.line:
        yield revocation.c.detail.contains(f'"token":"{each.token_id}"', autoescape=True)
