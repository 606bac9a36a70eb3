"""Tells of intents that nobody redeemed in time: in the ledger, once however many issuers share it, and in the log."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from issuer.core.approval_state import Refusal
from issuer.core.errors import TemporarilyUnavailable
from issuer.core.instants import microseconds
from issuer.core.intent_state import Step, StepKind, apply, name_of
from issuer.core.intent_steps import step_text
from issuer.core.ledger_entries import INTENT, INTENT_EXPIRED, StepTaken
from issuer.ports import ClaimTaken
from issuer.waiting import first_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from issuer.core.intent_book import IntentBook
    from issuer.core.intent_state import RegisteredIntent
    from issuer.ports import Clock, Ledger

LOOK_SECONDS: Final = 2.0
"""So often it is looked for intents that have just expired."""
AT_ONCE: Final = 100
"""So many in one look, so that they leave room for decisions in the ledger's commits."""


class IntentExpiry:
    """Looks until it is told to stop.

    Args:
        intents: What was registered, and what became of it.
        ledger: Where it is told.
        clock: The time.
        log: Where it is told as well.
        told: Runs for each that this issuer told of.
    """

    def __init__(
        self,
        *,
        intents: IntentBook,
        ledger: Ledger,
        clock: Clock,
        log: FilteringBoundLogger,
        told: Callable[[], None],
    ) -> None:
        self._intents = intents
        self._ledger = ledger
        self._clock = clock
        self._log = log
        self._told = told

    async def run(self, stop: asyncio.Event) -> None:
        """Tell of each that expires, until ``stop`` is set."""
        while not stop.is_set():
            await self.tell()
            await first_of(stop, within=LOOK_SECONDS)

    async def tell(self) -> None:
        """Tell of those that have expired by now."""
        expired = self._intents.unreported(self._clock.now())[:AT_ONCE]
        await asyncio.gather(*map(self._tell, expired))

    async def _tell(self, intent: RegisteredIntent) -> None:
        now, step = microseconds(self._clock.now()), Step(StepKind.EXPIRE, "")
        after = apply(intent, step, now)
        if isinstance(after, Refusal):  # the clock was set back since the look
            return
        registration = intent.registration
        entry = StepTaken(
            INTENT_EXPIRED, INTENT, intent.id, after.number, now, "", step_text(step), registration.over_at
        )
        try:
            await self._ledger.write(entry)
        except ClaimTaken:  # another issuer was first, or it was redeemed in its last moment
            return
        except TemporarilyUnavailable:  # the ledger says so itself; the next look finds it again
            return
        self._told()
        self._log.warning(
            "intent_expired",
            intent=name_of(intent),
            registrar=registration.registrar,
            consumer=registration.consumer,
            audience=registration.audience,
            uses_left=intent.uses_left,
        )
