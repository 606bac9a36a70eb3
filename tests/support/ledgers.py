"""A real ledger for a test: an SQLite file with the process that owns it."""

from __future__ import annotations

import sqlite3
import time
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
import structlog

from issuer.core.approval_book import ApprovalBook
from issuer.core.claim_books import ClaimBooks
from issuer.core.errors import Reason, TemporarilyUnavailable
from issuer.core.instants import microseconds
from issuer.core.record import DecisionRecord
from issuer.core.revocation import Revocation
from issuer.core.revocation_text import entry_of
from issuer.core.status_index import BlocksTaken
from issuer.ledger.group_commit import GroupCommit
from issuer.ledger.observing import Unobserved
from issuer.ledger.revocation_book import LedgerRevocations
from issuer.ledger.sqlite_ledger import SqliteLedger
from issuer.system import RandomIds, SystemClock
from support.eventually import eventually_true

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from issuer.core.claim_books import ClaimBook
    from issuer.core.ledger_entries import Entry, RevocationMade
    from issuer.core.revocation import Selector
    from issuer.ledger.engine import Engine
    from issuer.ledger.observing import Copy, Observer
    from issuer.ports import Clock


def group_commit(
    engine: Engine,
    *,
    max_wait: timedelta = timedelta(seconds=5),
    max_waiting: int = 10_000,
    on_change: Callable[[], None] = lambda: None,
    clock: Clock | None = None,
    observer: Observer | None = None,
    copy: Copy | None = None,
    revocations: LedgerRevocations | None = None,
    approvals: ApprovalBook | None = None,
    claims: ClaimBooks | None = None,
    blocks: BlocksTaken | None = None,
    books: Sequence[ClaimBook] = (),
) -> GroupCommit:
    """Return a ledger over a store, not yet open."""
    return GroupCommit(
        engine,
        revocations=revocations or LedgerRevocations(),
        claims=claims
        or ClaimBooks(
            ApprovalBook() if approvals is None else approvals, BlocksTaken() if blocks is None else blocks, *books
        ),
        max_wait=max_wait,
        max_waiting=max_waiting,
        program="test",
        clock=clock or SystemClock(),
        ids=RandomIds(),
        log=structlog.get_logger(),
        on_change=on_change,
        observer=observer or Unobserved(),
        copy=copy,
    )


class Observed(Unobserved):
    """Counts what was committed."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def committed(self, entries: Sequence[Entry], seconds: float) -> None:
        assert seconds > 0
        self.batches.append(len(entries))


@asynccontextmanager
async def sqlite_ledger(
    path: Path, observer: Observer | None = None, revocations: LedgerRevocations | None = None
) -> AsyncIterator[GroupCommit]:
    """Open a ledger at ``path`` and close it afterwards."""
    ledger = group_commit(SqliteLedger(path), observer=observer, revocations=revocations)
    await ledger.open()
    try:
        yield ledger
    finally:
        await ledger.close()


def rows(path: Path, query: str) -> list[Any]:
    """Return what a query finds in an SQLite ledger."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def record(**changes: Any) -> DecisionRecord:
    """Return a decision with an id of its own."""
    now = SystemClock().now()
    usual = DecisionRecord(
        decision_id=UUID(RandomIds().fresh_id(now)).bytes,
        time=microseconds(now),
        caller="spiffe://prod.example/ns/payments/sa/settler",
        svid=f"{'aa' * 32} 1 {microseconds(now)}",
        peer="ipv4:10.0.0.7",
        grant_type="client_credentials",
        audience="https://ledger.prod.example",
        application_asked="",
        scopes_asked="ledger.read",
        ttl_asked=None,
        intent="",
        flags=0,
        outcome=1,
        reason="",
        application="ledger",
        scopes="ledger.read",
        scopes_refused="",
        rules="reads",
        policy=f"sha256:{'0' * 64}",
        facts="",
        missing="",
        lifetime=300,
        lifetime_bound="audience",
        lifetime_rule="https://ledger.prod.example",
        token_id=RandomIds().fresh_id(now),
        expires_at=microseconds(now) // 1_000_000 + 300,
        token_sha256=b"\0" * 32,
        audit="",
    )
    return usual._replace(**changes)


async def refused(ledger: GroupCommit) -> float:
    """Return how long a write took that the ledger refused."""
    started = time.monotonic()
    with pytest.raises(TemporarilyUnavailable) as refusal:
        await ledger.write(record())
    assert refusal.value.reason is Reason.LEDGER_UNAVAILABLE
    return time.monotonic() - started


async def works_again(ledger: GroupCommit) -> None:
    """Wait until the ledger takes a decision."""
    await eventually_true(lambda: ledger.fault is None)
    await ledger.write(record())


def revoking(selector: Selector, **changes: Any) -> RevocationMade:
    """Return a revocation to be written."""
    now = SystemClock().now()
    usual: dict[str, Any] = {
        "id": RandomIds().fresh_id(now),
        "selector": selector,
        "time": microseconds(now),
        "actor": "spiffe://prod.example/operator",
        "why": "a leak",
        "stops_issuance": selector.token is None,
    }
    return entry_of(Revocation(**(usual | changes)))
