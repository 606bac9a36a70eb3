"""Holds the table of revocations, which is what issuers read, against the chained entries that say the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from issuer.core.chain_check import ChainFault
from issuer.core.ledger_entries import REVOCATION_LIFTED, REVOCATION_MADE
from issuer.ledger.schema import event, revocation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Row


def revocation_faults(connection: Connection, pruned_before: int) -> Iterator[ChainFault]:
    """Yield each revocation that the table and the chains tell differently.

    Args:
        connection: To the ledger.
        pruned_before: Entries of before that moment may be gone, microseconds since 1970 UTC.
    """
    # An issuer may write meanwhile: what is missing in one place was there, in the other, before that place was read.
    before = _chained(connection)
    rows = {row.id: row for row in connection.execute(select(revocation))}
    made, lifted = _chained(connection)
    for name, row in rows.items():
        yield from _faults_of_row(row, made.get(name), lifted.get(name), pruned_before)
    for name in before[0].keys() - rows.keys():
        yield _fault(name, "was removed from the table")
    for name in before[1].keys() & rows.keys():
        if rows[name].lifted_time is None:
            yield _fault(name, "its lift was removed from the table")


def _faults_of_row(
    row: Row[Any], made: Row[Any] | None, lifted: Row[Any] | None, pruned_before: int
) -> Iterator[ChainFault]:
    if made is None and row.time >= pruned_before:
        yield _fault(row.id, "no entry tells of it")
    elif made is not None and (row.detail, row.time, row.actor) != (made.detail, made.time, made.actor):
        yield _fault(row.id, "the table has another than was chained")
    if lifted is None and row.lifted_time is not None and row.lifted_time >= pruned_before:
        yield _fault(row.id, "no entry tells of its lift")
    elif (
        lifted is not None
        and row.lifted_time is not None
        and (row.lifted_time, row.lifted_by)
        != (
            lifted.time,
            lifted.actor,
        )
    ):
        yield _fault(row.id, "the table has another lift than was chained")


def _chained(connection: Connection) -> tuple[dict[str, Row[Any]], dict[str, Row[Any]]]:
    """Return the entries that make and that lift revocations, by its id."""
    found = []
    for kind in (REVOCATION_MADE, REVOCATION_LIFTED):
        entries = connection.execute(select(event).where(event.c.kind == kind).order_by(event.c.seq.desc()))
        found.append({json.loads(row.detail)["id"]: row for row in entries})  # of several lifts the first one counted
    return found[0], found[1]


def _fault(name: str, problem: str) -> ChainFault:
    return ChainFault("", 0, f"revocation {name}", problem)
