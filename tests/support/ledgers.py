"""A real ledger for a test: an SQLite file with the process that owns it."""

from __future__ import annotations

import sqlite3
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog

from issuer.ledger.group_commit import GroupCommit
from issuer.ledger.sqlite_ledger import SqliteLedger
from issuer.system import RandomIds, SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from issuer.ledger.engine import Engine


def group_commit(
    engine: Engine,
    *,
    max_wait: timedelta = timedelta(seconds=5),
    max_waiting: int = 10_000,
    on_change: Callable[[], None] = lambda: None,
) -> GroupCommit:
    """Return a ledger over a store, not yet open."""
    return GroupCommit(
        engine,
        max_wait=max_wait,
        max_waiting=max_waiting,
        program="test",
        clock=SystemClock(),
        ids=RandomIds(),
        log=structlog.get_logger(),
        on_change=on_change,
    )


@asynccontextmanager
async def sqlite_ledger(path: Path) -> AsyncIterator[GroupCommit]:
    """Open a ledger at ``path`` and close it afterwards."""
    ledger = group_commit(SqliteLedger(path))
    await ledger.open()
    try:
        yield ledger
    finally:
        await ledger.close()


def rows(path: Path, query: str) -> list[Any]:
    """Return what a query finds in an SQLite ledger."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()
