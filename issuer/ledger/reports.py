"""What many decisions have in common: counted by the database, with the texts put in here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, func, select

from issuer.core.identity_use import Use
from issuer.core.record import Flag, Outcome
from issuer.core.reports import Counted, Denials, ExceptionUse, Granted, Top
from issuer.ledger.decision_filter import first_seq_since
from issuer.ledger.reading import Texts, decisions_query, resolved
from issuer.ledger.schema import decision, personal, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import ColumnElement, Connection

    from issuer.ledger.reading import LedgerReader, StoredDecision

TEXTS_AT_ONCE: Final = 2_000


def denials(reader: LedgerReader, *, since: int, until: int, limit: int) -> list[Denials]:
    """Return refusals by caller, audience and reason, the most frequent first.

    Raises:
        LedgerFault: The ledger cannot be read.
    """
    keys = (decision.c.caller, decision.c.audience, decision.c.reason)
    count = func.count()
    with reader.connected() as connection:
        query = (
            select(*keys, count, func.min(decision.c.time), func.max(decision.c.time), func.max(decision.c.seq))
            .where(decision.c.outcome != Outcome.GRANTED, *_refused_between(since, until))
            .group_by(*keys)
            .order_by(count.desc())
            .limit(limit)
        )
        rows = connection.execute(query).all()
        told = _texts(connection, (number for row in rows for number in row[:3]))
        newest = _by_seq(connection, [row[6] for row in rows])
    return [
        Denials(
            told[caller],
            told[audience],
            told[reason],
            requests,
            first,
            last,
            newest[seq].record,
            seq,
            newest[seq].erased,
        )
        for caller, audience, reason, requests, first, last, seq in rows
    ]


def uses(reader: LedgerReader, *, since: int, until: int) -> Iterator[Use]:
    """Yield how each identity was used, by certificate, network address, application, audience and scopes.

    Raises:
        LedgerFault: The ledger cannot be read.
    """
    keys = [
        decision.c[name]
        for name in ("caller", "svid", "peer", "application", "application_asked", "audience", "scopes_asked")
    ]
    with reader.connected() as connection:
        query = (
            select(*keys, func.count(), func.min(decision.c.time), func.max(decision.c.time))
            .where(decision.c.peer.is_not(None), *_between(connection, since, until))  # None: of one who was not there
            .group_by(*keys)
        )
        rows = connection.execute(query).all()
        told = _texts(connection, (row[place] for row in rows for place in (0, 1, 3, 4, 5, 6)))
        people = _people(connection, (row[2] for row in rows))
    for caller, svid, peer, given, asked, audience, scopes, count, first, last in rows:
        yield Use(
            caller=told[caller],
            certificate=told[svid].partition(" ")[0],
            address=people[peer].rpartition(":")[0],
            application=told[asked] or told[given],
            audience=told[audience],
            scopes=told[scopes],
            requests=count,
            first=first,
            last=last,
        )


def granted(reader: LedgerReader, *, since: int, until: int) -> list[Granted]:
    """Return which grants gave which scopes.

    Raises:
        LedgerFault: The ledger cannot be read.
    """
    keys = (decision.c.audience, decision.c.rules, decision.c.scopes)
    with reader.connected() as connection:
        query = select(*keys).distinct()
        given = decision.c.outcome == Outcome.GRANTED
        rows = connection.execute(query.where(given, *_between(connection, since, until))).all()
        told = _texts(connection, (number for row in rows for number in row))
    return [Granted(told[row[0]], frozenset(told[row[1]].split()), frozenset(told[row[2]].split())) for row in rows]


def oldest(reader: LedgerReader) -> int | None:
    """Return when the oldest decision was made, microseconds since 1970 UTC; ``None`` when there is none.

    Raises:
        LedgerFault: The ledger cannot be read.
    """
    with reader.connected() as connection:
        found: int | None = connection.scalar(select(decision.c.time).order_by(decision.c.seq).limit(1))
        return found


def top(reader: LedgerReader, *, since: int, until: int, now: int, limit: int) -> Top:
    """Return who asked most for what, and the tokens among those that are alive.

    Raises:
        LedgerFault: The ledger cannot be read.
    """
    with reader.connected() as connection:
        between = _between(connection, since, until)
        alive = and_(decision.c.token_id.is_not(None), decision.c.expires_at > now // 1_000_000)
        expiry = decision.c.expires_at * 1_000_000
        return Top(
            callers=_counted(connection, decision.c.caller, decision.c.time, between, limit),
            audiences=_counted(connection, decision.c.audience, decision.c.time, between, limit),
            alive=_counted(connection, decision.c.audience, expiry, [*between, alive], limit),
        )


def exception_uses(reader: LedgerReader, *, since: int, until: int) -> list[ExceptionUse]:
    """Return how exceptions for legacy applications were used.

    Raises:
        LedgerFault: The ledger cannot be read.
    """
    keys = (decision.c.rules, decision.c.caller, decision.c.audience)
    with reader.connected() as connection:
        legacy = decision.c.flags.op("&")(int(Flag.LEGACY)) != 0
        query = (
            select(*keys, func.count(), func.max(decision.c.time), func.max(decision.c.expires_at))
            .where(legacy, *_between(connection, since, until))
            .group_by(*keys)
        )
        rows = connection.execute(query).all()
        told = _texts(connection, (number for row in rows for number in row[:3]))
    found = [
        ExceptionUse(told[rules], told[caller], told[audience], requests, last, (expires or 0) * 1_000_000)
        for rules, caller, audience, requests, last, expires in rows
    ]
    return sorted(found)


def _counted(
    connection: Connection,
    key: ColumnElement[Any],
    last: ColumnElement[Any],
    conditions: Sequence[ColumnElement[bool]],
    limit: int,
) -> list[Counted]:
    count = func.count()
    query = select(key, count, func.max(last)).where(*conditions).group_by(key).order_by(count.desc()).limit(limit)
    rows = connection.execute(query).all()
    told = _texts(connection, (row[0] for row in rows))
    return [Counted(told[number], counted, latest) for number, counted, latest in rows]


def _between(connection: Connection, since: int, until: int) -> list[ColumnElement[bool]]:
    return [decision.c.seq >= first_seq_since(connection, since), decision.c.time >= since, decision.c.time < until]


def _refused_between(since: int, until: int) -> list[ColumnElement[bool]]:
    """Bound refusals by their ids, which have an index of their own and sort by time; a minute is left for clocks."""
    bounds = (max(since // 1_000 - 60_000, 0), until // 1_000 + 60_000)
    first, last = (milliseconds.to_bytes(6) + bytes(10) for milliseconds in bounds)
    ids = decision.c.decision_id
    return [ids >= first, ids < last, decision.c.time >= since, decision.c.time < until]


def _texts(connection: Connection, numbers: Iterable[int | None]) -> dict[int | None, str]:
    found: dict[int | None, str] = {None: ""}
    for some in _in_parts(numbers):
        query = select(text.c.id, text.c.value).where(text.c.id.in_(some))
        found.update((number, value) for number, value in connection.execute(query))
    return found


def _people(connection: Connection, numbers: Iterable[int | None]) -> dict[int | None, str]:
    found: dict[int | None, str] = {None: ""}
    for some in _in_parts(numbers):
        query = select(personal.c.id, personal.c.value).where(personal.c.id.in_(some))
        found.update((number, value or "") for number, value in connection.execute(query))
    return found


def _by_seq(connection: Connection, seqs: Sequence[int]) -> dict[int, StoredDecision]:
    found: dict[int, StoredDecision] = {}
    for some in _in_parts(seqs):
        rows = connection.execute(decisions_query().where(decision.c.seq.in_(some))).all()
        found.update((stored.seq, stored) for stored in resolved(connection, rows, Texts()))
    return found


def _in_parts(numbers: Iterable[int | None]) -> Iterator[Sequence[int]]:
    listed = sorted({number for number in numbers if number is not None})
    return (listed[start : start + TEXTS_AT_ONCE] for start in range(0, len(listed), TEXTS_AT_ONCE))
