"""Which decisions a reader wants, as conditions on rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, or_, select

from issuer.core.errors import IssuerError
from issuer.core.patterns import PatternError, parse_pattern
from issuer.core.spiffe_id import SpiffeId
from issuer.ledger.errors import LedgerFault
from issuer.ledger.schema import decision, personal, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import ColumnElement, Connection, Select

    from issuer.core.patterns import WorkloadPattern
    from issuer.ports import DecisionsWanted


def decision_conditions(connection: Connection, wanted: DecisionsWanted) -> list[ColumnElement[bool]] | None:
    """Return what rows have to fulfil; ``None`` when no row can, for a text is nowhere in the ledger."""
    conditions = list(_plain_conditions(connection, wanted))
    for value, names in (
        (wanted.audience, ("audience",)),
        (wanted.application, ("application", "application_asked")),
        (wanted.grant_type, ("grant_type",)),
        (wanted.reason, ("reason",)),
        (wanted.policy, ("policy",)),
    ):
        if value is not None:
            number = connection.scalar(select(text.c.id).where(text.c.value == value))
            if number is None:
                return None
            conditions.append(or_(*(decision.c[name] == number for name in names)))
    for word, name in ((wanted.scope, "scopes_asked"), (wanted.rule, "rules"), (wanted.certificate, "svid")):
        if word is not None:
            conditions.append(decision.c[name].in_(with_word(word)))
    if wanted.caller is not None:
        callers = callers_of(connection, wanted.caller)
        if not callers:
            return None
        conditions.append(decision.c.caller.in_(callers))
    return conditions


def _plain_conditions(connection: Connection, wanted: DecisionsWanted) -> Iterator[ColumnElement[bool]]:
    if wanted.since is not None:
        yield decision.c.time >= wanted.since
        yield decision.c.seq >= first_seq_since(connection, wanted.since)
    if wanted.until is not None:
        yield decision.c.time < wanted.until
    if wanted.outcome is not None:
        yield decision.c.outcome == wanted.outcome
    if wanted.flags:
        yield decision.c.flags.op("&")(wanted.flags) == wanted.flags
    if wanted.peer is not None:
        address = _escaped(wanted.peer)
        value = personal.c.value
        here = or_(value == wanted.peer, value.like(f"%:{address}:%", escape="!"))
        yield decision.c.peer.in_(select(personal.c.id).where(here))


def first_seq_since(connection: Connection, since: int) -> int:
    """Return a ``seq`` below which every decision was made before a moment.

    Decision ids sort by their time (RFC 9562 section 5.7), and have an index; rows are written a little later than they
    are decided, by several writers, whose clocks may differ: a minute is left for that.
    """
    milliseconds = max(since // 1_000 - 60_000, 0)
    first = milliseconds.to_bytes(6) + bytes(10)
    # Ids of one moment are in no order: the lowest `seq` is somewhere among the first of them.
    ids = select(decision.c.seq).where(decision.c.decision_id >= first).order_by(decision.c.decision_id).limit(1_000)
    found = connection.scalar(select(func.min(ids.subquery().c.seq)))
    if found is None:
        found = connection.scalar(select(func.max(decision.c.seq)))
    return int(found or 0)


def callers_of(connection: Connection, wanted: str) -> list[int]:
    """Return the numbers of the callers that a SPIFFE ID or a pattern means."""
    if "*" not in wanted:
        return list(connection.scalars(select(text.c.id).where(text.c.value == wanted)))
    try:
        pattern = parse_pattern(wanted)
    except PatternError as error:
        raise LedgerFault(f"the caller {wanted!r}: {error}") from None
    beginning = _escaped(wanted[: wanted.index("*")])
    query = select(text.c.id, text.c.value).where(text.c.value.like(f"{beginning}%", escape="!"))
    return [number for number, value in connection.execute(query) if _matches(pattern, value)]


def _matches(pattern: WorkloadPattern, value: str) -> bool:
    try:
        return pattern.matches(SpiffeId.parse(value))
    except IssuerError:
        return False


def with_word(word: str) -> Select[tuple[int]]:
    """Return the numbers of texts that hold a word between spaces."""
    return select(text.c.id).where((" " + text.c.value + " ").like(f"% {_escaped(word)} %", escape="!"))


def _escaped(part: str) -> str:
    return part.replace("!", "!!").replace("%", "!%").replace("_", "!_")
