"""Ends windows of access that would not be granted any more, without anyone acting.

Whatever a window rests on tells when it changed: facts, the policy, revocations, approvals, and the windows themselves.
All that are open are decided again then, and when time alone could change an answer. What tells nothing (a source that
is asked, a condition that reads the clock) is caught by a look every few seconds. Each issuer watches; of several the
ledger lets one write an end.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from issuer.core.access_end import entries_of_end
from issuer.core.access_terms import approval_id, caller_of, judge, request_of
from issuer.core.access_window import Status, apply, name_of
from issuer.core.approval_state import Refusal
from issuer.core.approval_state import Status as ApprovalStatus
from issuer.core.errors import IssuerError, Reason
from issuer.core.facts_needed import facts_needed
from issuer.core.instants import microseconds
from issuer.fact_lookup import known_facts
from issuer.ports import ClaimTaken
from issuer.waiting import first_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from structlog.typing import FilteringBoundLogger

    from issuer.core.access_book import AccessBook
    from issuer.core.access_terms import Verdict
    from issuer.core.access_window import AccessWindow, Step
    from issuer.core.approval_book import ApprovalBook
    from issuer.core.facts import Facts
    from issuer.core.policy import Policy
    from issuer.ports import Clock, FactBook, Ids, Ledger, PolicyBook, RevocationBook

LOOK_SECONDS: Final = 2.0
"""So often windows are decided again though nothing was told: 2,000 of them, at 0.13 ms, are an eighth of a core."""
PAUSE_SECONDS: Final = 0.1
"""At least so long lies between two looks, however fast facts are told."""
PATIENCE_SECONDS: Final = 30.0
"""So long a window that an issuer has just learned of may lack facts: after a restart they are told again. What was
known here once, and is not any more, is waited for no time at all."""
_AT_ONCE: Final = 16
"""Other calls have a turn of the event loop after so many windows: at about 0.13 ms each, 2 ms."""


class AccessWatch:
    """Decides open windows again, and ends those that do not hold.

    Args:
        policies: The policy in force.
        facts: What feeders told.
        ids: Where identifiers come from.
        ledger: Where an end is, before it takes effect.
        revocations: Those that hold.
        approvals: What people approved, and took back.
        accesses: The windows.
        clock: The time.
        changed: Is set whenever something that windows rest on changed; in this event loop.
        log: Where it reports.
    """

    def __init__(
        self,
        *,
        policies: PolicyBook,
        facts: FactBook,
        ids: Ids,
        ledger: Ledger,
        revocations: RevocationBook,
        approvals: ApprovalBook,
        accesses: AccessBook,
        clock: Clock,
        changed: asyncio.Event,
        log: FilteringBoundLogger,
    ) -> None:
        self._policies = policies
        self._facts = facts
        self._ids = ids
        self._ledger = ledger
        self._revocations = revocations
        self._approvals = approvals
        self._accesses = accesses
        self._clock = clock
        self._changed = changed
        self._log = log
        self._met: dict[str, datetime] = {}
        self._held: set[str] = set()
        self._failures: list[str] = []

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until ``stop``."""
        changed = self._changed
        unwatch = [book.watch(changed.set) for book in (self._accesses, self._revocations, self._approvals)]
        try:
            while not stop.is_set():
                changed.clear()
                next_look = await self._look()
                await first_of(stop, within=PAUSE_SECONDS)
                await first_of(stop, changed, within=next_look)
        finally:
            for forget in unwatch:
                forget()

    async def _look(self) -> float | None:
        """Decide each open window again; return the seconds until it has to be done again, ``None`` for no window."""
        windows = self._accesses.not_ended
        self._forget(windows)
        nearest, self._failures = LOOK_SECONDS, []
        for first in range(0, len(windows), _AT_ONCE):
            # Together, so that many ends are one commit: each commit that revokes has others decide again.
            listed = windows[first : first + _AT_ONCE]
            nearest = min(nearest, *await asyncio.gather(*map(self._judged_if_possible, listed)))
        if self._failures:  # in one line, however many they are: the next look tries again
            self._log.error("access_not_judged", windows=len(self._failures), error=self._failures[0])
        return nearest if windows else None

    async def _judged_if_possible(self, window: AccessWindow) -> float:
        try:
            return await self._judged(window)
        except IssuerError as error:  # the policy or the ledger is away
            self._failures.append(error.message)
        except Exception as error:  # noqa: BLE001 - a window that cannot be judged keeps no other from its end
            self._failures.append(repr(error))
        return LOOK_SECONDS

    async def _judged(self, window: AccessWindow) -> float:
        """End a window that does not hold; return the seconds until time could change that."""
        policy = self._policies.current()
        facts = await self._known_facts(policy, window)
        now = self._clock.now()
        approval = self._approvals.get(approval_id(window))
        verdict = judge(
            window,
            policy,
            facts,
            now,
            revocations=self._revocations.current(),
            approval_taken_back=approval is not None and approval.status is ApprovalStatus.REVOKED,
        )
        if verdict.end is None:
            self._held.add(window.id)
            return max((verdict.look_again - microseconds(now)) / 1_000_000, 0.0)
        if not self._is_patient(window, verdict, now):
            await self._end(window, verdict.end, now)
        return LOOK_SECONDS

    async def _known_facts(self, policy: Policy, window: AccessWindow) -> Facts:
        caller = caller_of(window)
        keys = facts_needed(policy, caller, request_of(window.opening))
        return await known_facts(self._facts, keys, policy, caller, self._clock.now())

    def _is_patient(self, window: AccessWindow, verdict: Verdict, now: datetime) -> bool:
        """Return whether all that is wrong may be that this issuer was not told yet what others were."""
        end = verdict.end
        if window.id in self._held or end is None or (end.end, end.why) != (Status.REFUSED, Reason.FACT_MISSING.value):
            return False
        met = self._met.setdefault(window.id, now)
        return (now - met).total_seconds() < PATIENCE_SECONDS

    async def _end(self, window: AccessWindow, step: Step, now: datetime) -> None:
        ended = apply(window, step, microseconds(now))
        if isinstance(ended, Refusal):  # since it was looked at
            return
        try:
            await self._ledger.write(*entries_of_end(ended, step, self._ids.fresh_id(now)))
        except ClaimTaken:  # by another issuer, or its caller completed it
            return
        opening = window.opening
        self._log.info(
            "access_ended", access=name_of(window), caller=opening.caller, audience=opening.audience, end=step.end,
            why=step.why, rules=list(step.rules),
        )  # fmt: skip

    def _forget(self, windows: Iterable[AccessWindow]) -> None:
        alive = {window.id for window in windows}
        self._held &= alive
        self._met = {window_id: met for window_id, met in self._met.items() if window_id in alive}
