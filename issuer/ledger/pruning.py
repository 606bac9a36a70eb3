"""Takes old entries out of a ledger: an entry says what went, and a head stands for it, so the rest can be proved."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from sqlalchemy import exists, select

from issuer.core.hash_chain import WriterHead
from issuer.core.instants import microseconds
from issuer.core.ledger_entries import ENTRIES_PRUNED, Event, PrunedTo, Sweep, detail
from issuer.ledger.schema import decision, event, personal, writer

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection, Row

    from issuer.ledger.group_commit import GroupCommit
    from issuer.ledger.reading import LedgerReader

SWEPT_AT_ONCE: Final = 1_000
"""Entries removed in one commit: few enough that callers who wait for the next one do not feel it."""


async def prune(ledger: GroupCommit, reader: LedgerReader, *, before: datetime, now: datetime, actor: str) -> int:
    """Remove, from the start of each chain, the entries that were made before a moment; return how many.

    An issuer goes on deciding meanwhile. Where this is cut short, the next one goes on. Texts that may point to a
    person are erased when no entry refers to them any more.

    Args:
        ledger: The open ledger; its chain says what was pruned.
        reader: The same ledger.
        before: Entries of this moment and later stay.
        now: The time of the entry that says so.
        actor: Who wants it; empty for the issuer itself.

    Raises:
        LedgerFault: The ledger cannot be read.
        TemporarilyUnavailable: LEDGER_UNAVAILABLE.
    """
    moment = microseconds(before)
    heads, pruned_now = await asyncio.to_thread(prunable, reader, moment)
    if pruned_now:
        told = [(head.writer, head.position, head.hash.hex()) for head in heads]
        said = Event(ENTRIES_PRUNED, microseconds(now), actor, detail({"before": moment, "heads": told}))
        await ledger.write(said, *(PrunedTo(*head) for head in heads))
    while await asyncio.to_thread(_unswept, reader):
        await ledger.write(Sweep(SWEPT_AT_ONCE))
    orphans = await asyncio.to_thread(_orphans, reader) if pruned_now else []
    for start in range(0, len(orphans), SWEPT_AT_ONCE):
        await ledger.write(Sweep(0, tuple(orphans[start : start + SWEPT_AT_ONCE])))
    return pruned_now


def prunable(reader: LedgerReader, before: int) -> tuple[list[WriterHead], int]:
    """Return the heads up to which chains are pruned or can be, and how many entries can be that were not.

    Heads of earlier prunings are among them: the entry that told of one may itself be pruned by now.

    Args:
        reader: The ledger.
        before: Microseconds since 1970 UTC; entries of this moment and later stay.

    Raises:
        LedgerFault: The ledger cannot be read.
    """
    heads, pruned_now = [], 0
    with reader.connected() as connection:
        for row in connection.execute(select(writer).order_by(writer.c.id)).all():
            position = max(_last_before(connection, row, before), row.pruned_position)
            if position > row.pruned_position:
                heads.append(WriterHead(row.uuid, position, _hash_at(connection, row.id, position)))
                pruned_now += position - row.pruned_position
            elif position:
                heads.append(WriterHead(row.uuid, position, bytes(row.pruned_hash)))
    return heads, pruned_now


def _last_before(connection: Connection, row: Row[tuple[object, ...]], before: int) -> int:
    """Return the position after which the first entry of a chain stays."""
    later = [
        connection.scalar(
            select(table.c.position)
            .where(table.c.writer == row.id, table.c.position > row.pruned_position, table.c.time >= before)
            .order_by(table.c.position)
            .limit(1)
        )
        for table in (decision, event)
    ]
    if staying := [position for position in later if position is not None]:
        return int(min(staying)) - 1
    last = (
        connection.scalar(
            select(table.c.position).where(table.c.writer == row.id).order_by(table.c.position.desc()).limit(1)
        )
        for table in (decision, event)
    )
    return max((int(position) for position in last if position is not None), default=0)


def _hash_at(connection: Connection, number: int, position: int) -> bytes:
    for table in (decision, event):
        found = connection.scalar(select(table.c.hash).where(table.c.writer == number, table.c.position == position))
        if found is not None:
            return bytes(found)
    raise LookupError(position)  # it was there in the query before


def _unswept(reader: LedgerReader) -> bool:
    with reader.connected() as connection:
        return any(
            connection.scalar(
                select(exists().where(table.c.writer == writer.c.id, table.c.position <= writer.c.pruned_position))
            )
            for table in (decision, event)
        )


def _orphans(reader: LedgerReader) -> list[int]:
    """Return the numbers of personal texts that no entry refers to."""
    with reader.connected() as connection:
        numbers = set(connection.scalars(select(personal.c.id).where(personal.c.value.is_not(None))))
        for column in (decision.c.peer, decision.c.intent):
            numbers -= set(connection.scalars(select(column).distinct()))
    return sorted(numbers)
