"""What ends windows of access without anyone acting: when it looks, what it waits for, and what it writes."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from support.eventually import eventually_true
from support.ledgers import Observed, group_commit, rows
from support.policies import LEDGER, SETTLER, grant, grants, policy
from support.windows import opening_now, started

from issuer.access_watch import LOOK_SECONDS, PATIENCE_SECONDS, AccessWatch
from issuer.core.access_book import AccessBook
from issuer.core.access_window import AccessWindow, Opening, Status
from issuer.core.approval_book import ApprovalBook
from issuer.core.claim_books import ClaimBooks
from issuer.core.errors import Reason, TemporarilyUnavailable
from issuer.core.facts import Fact
from issuer.core.instants import microseconds
from issuer.core.revocation import Revocation, Selector
from issuer.core.revocation_text import entry_of
from issuer.facts.book import Facts
from issuer.facts.store import FactStore
from issuer.ledger.revocation_book import LedgerRevocations
from issuer.ledger.sqlite_ledger import SqliteLedger
from issuer.system import RandomIds, SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime
    from pathlib import Path

    from issuer.core.policy import Policy
    from issuer.ledger.group_commit import GroupCommit

FACTS = "facts: [{name: change, subject: ticket, max_age: 30m, fields: {approved: bool}}]"
PLAIN = policy(grants(grant(scopes="[read, refund]", grant_types="[jit]")))
TICKETED = policy(FACTS, grants(grant(scopes="[read, refund]", grant_types="[jit]", when="facts.change.approved")))
SOON = 20.0


class Policies:
    """The policy in force, or none."""

    def __init__(self, current: Policy) -> None:
        self.in_force: Policy | None = current

    def current(self) -> Policy:
        if self.in_force is None:
            raise TemporarilyUnavailable(Reason.POLICY_NOT_LOADED, "no policy")
        return self.in_force


class LaterClock:
    """The system's clock, and some time on top."""

    def __init__(self) -> None:
        self.later = timedelta(0)

    def now(self) -> datetime:
        return SystemClock().now() + self.later


class Watched:
    """A watch, and what it looks at."""

    def __init__(self, folder: Path, rules: Policy = PLAIN) -> None:
        self.file = folder / "ledger.sqlite3"
        self.accesses, self.revocations, self.approvals = AccessBook(), LedgerRevocations(), ApprovalBook()
        self.clock, self.store, self.policies = LaterClock(), FactStore(), Policies(rules)
        self.changed = asyncio.Event()
        self.store.on_change = self.changed.set
        self.observed = Observed()
        self.ledger: GroupCommit = group_commit(
            SqliteLedger(self.file),
            revocations=self.revocations,
            claims=ClaimBooks(self.approvals, self.accesses),
            observer=self.observed,
        )
        self.watch = AccessWatch(
            policies=self.policies,
            facts=Facts(self.store),
            ids=RandomIds(),
            ledger=self.ledger,
            revocations=self.revocations,
            approvals=self.approvals,
            accesses=self.accesses,
            clock=self.clock,
            changed=self.changed,
            log=structlog.get_logger(),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        watching = asyncio.create_task(self.watch.run(stop))
        try:
            yield
        finally:
            stop.set()
            await watching

    async def opened(self, **changes: Any) -> Opening:
        """Open a window."""
        of = opening_now(**({"caller": SETTLER, "audience": LEDGER} | changes))
        await self.ledger.write(started(of))
        return of

    def known(self, of: Opening) -> AccessWindow:
        known = self.accesses.get(of.id)
        assert known is not None
        return known

    async def until_ended(self, *of: Opening) -> list[Status | None]:
        """Wait until windows have ended, and return how."""
        async with asyncio.timeout(SOON):
            while any(self.known(each).ended is None for each in of):
                changed = asyncio.Event()
                stop = self.accesses.watch(changed.set)
                if any(self.known(each).ended is None for each in of):
                    await changed.wait()
                stop()
        return [self.known(each).ended for each in of]

    def tell(self, *, approved: bool, rest: timedelta = timedelta(minutes=20)) -> None:
        now = self.clock.now()
        values = {"approved": approved}
        self.store.put(
            [Fact("change", "CHG-7", values, "file:x", now, now + rest, caller=SETTLER, audience=LEDGER)], now
        )

    def lines(self, of: Opening) -> list[Any]:
        """Return the events of a window's end."""
        return rows(self.file, f"SELECT actor FROM event WHERE kind = 'access_ended' AND detail LIKE '%{of.id}%'")  # noqa: S608


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    found = Watched(tmp_path)
    await found.ledger.open()
    yield found
    await found.ledger.close()


async def test_a_policy_that_changes_ends_what_it_does_not_give(watched: Watched) -> None:
    of = await watched.opened()
    async with watched.running():
        watched.policies.in_force = policy()
        watched.changed.set()
        assert await watched.until_ended(of) == [Status.REFUSED]
    assert watched.known(of).ended_why == "AUDIENCE_NOT_ALLOWED"
    assert watched.lines(of) == [("",)]
    [revocation] = watched.revocations.by_attributes
    assert revocation.selector.basis == f"access/{of.id}"


async def test_what_tells_nothing_is_seen_at_the_next_look(watched: Watched) -> None:
    of = await watched.opened()
    async with watched.running():
        watched.policies.in_force = policy()  # and nobody says so
        async with asyncio.timeout(LOOK_SECONDS + SOON):
            assert await watched.until_ended(of) == [Status.REFUSED]


async def test_time_ends_it_at_its_end_and_that_revokes_nothing(watched: Watched) -> None:
    now = microseconds(watched.clock.now())
    soon = await watched.opened(until=now + 500_000)
    svid = await watched.opened(svid_until=now + 500_000)
    later = await watched.opened()
    async with watched.running():
        assert await watched.until_ended(soon, svid) == [Status.EXPIRED, Status.SVID_EXPIRED]
    assert watched.known(later).ended is None
    assert watched.revocations.by_attributes == []


async def test_a_revocation_ends_it(watched: Watched) -> None:
    of = await watched.opened()
    stop = Revocation("r-1", Selector(audience=LEDGER), 1, "", "x", stops_issuance=True)
    async with watched.running():
        await watched.ledger.write(entry_of(stop))
        assert await watched.until_ended(of) == [Status.REVOKED]
    assert watched.known(of).ended_rules == ("r-1",)


async def test_many_ends_are_few_commits(watched: Watched) -> None:
    windows = [await watched.opened() for _ in range(40)]
    before = len(watched.observed.batches)
    watched.policies.in_force = policy()
    async with watched.running():
        assert set(await watched.until_ended(*windows)) == {Status.REFUSED}
    assert len(watched.observed.batches) - before <= 10
    assert len(watched.revocations.by_attributes) == 40


async def test_where_the_policy_is_away_it_ends_what_has_to_end_once_it_is_back(watched: Watched) -> None:
    of = await watched.opened()
    watched.policies.in_force = None
    async with watched.running():
        await asyncio.sleep(0)
        assert watched.known(of).ended is None
        watched.policies.in_force = policy()
        watched.changed.set()
        assert await watched.until_ended(of) == [Status.REFUSED]


class TestFactsThatAreMissing:
    """After a restart feeders tell again: for a while a window is not ended for what this issuer never knew."""

    @pytest.fixture
    async def ticketed(self, tmp_path: Path) -> AsyncIterator[Watched]:
        found = Watched(tmp_path, TICKETED)
        await found.ledger.open()
        yield found
        await found.ledger.close()

    async def test_are_waited_for_and_then_no_longer(self, ticketed: Watched) -> None:
        of = await ticketed.opened(intent='{"ticket":"CHG-7"}')
        async with ticketed.running():
            ticketed.clock.later = timedelta(seconds=PATIENCE_SECONDS / 2)
            ticketed.changed.set()
            await self.looked(ticketed)
            assert ticketed.known(of).ended is None
            ticketed.clock.later = timedelta(seconds=2 * PATIENCE_SECONDS)
            ticketed.changed.set()
            assert await ticketed.until_ended(of) == [Status.REFUSED]
        assert ticketed.known(of).ended_why == "FACT_MISSING"

    async def test_are_not_waited_for_once_they_were_known(self, ticketed: Watched) -> None:
        ticketed.tell(approved=True, rest=timedelta(seconds=1))
        of = await ticketed.opened(intent='{"ticket":"CHG-7"}')
        async with ticketed.running():
            assert await ticketed.until_ended(of) == [Status.REFUSED]
        assert ticketed.known(of).ended_why == "FACT_MISSING"

    async def test_do_not_hide_what_is_known_to_be_false(self, ticketed: Watched) -> None:
        of = await ticketed.opened(intent='{"ticket":"CHG-7"}')
        async with ticketed.running():
            await self.looked(ticketed)
            ticketed.tell(approved=False)
            assert await ticketed.until_ended(of) == [Status.REFUSED]
        assert ticketed.known(of).ended_why == "CONDITION_NOT_MET"

    @staticmethod
    async def looked(watched: Watched) -> None:
        """Wait until the watch has looked at what it was told of."""
        await eventually_true(lambda: not watched.changed.is_set())
