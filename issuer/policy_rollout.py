"""Puts policies in force while the issuer runs: when files change, on SIGHUP, and when an operator asks."""

from __future__ import annotations

import asyncio
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Protocol

from issuer.core.errors import AdminRefused, IssuerError, Reason, TemporarilyUnavailable
from issuer.core.instants import microseconds
from issuer.core.ledger_entries import POLICY_IN_FORCE, Event, KeptPolicy, detail
from issuer.core.policy_faults import PolicyInvalid
from issuer.garbage_collection import keeping
from issuer.observing import UNOBSERVED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from datetime import datetime

    from structlog.typing import FilteringBoundLogger

    from issuer.core.generations import Generation, PolicyStatus
    from issuer.observing import PolicyObserver
    from issuer.policy_files.directory import DirectoryPolicyBook
    from issuer.ports import Clock, Ledger


SWITCH_SECONDS: Final = 0.0001


@contextmanager
def _giving_way() -> Iterator[None]:
    """Let requests go first while another thread loads a policy: for the whole process, until it is loaded.

    The interpreter makes a busy thread give way 50 times as often, and looks at nothing of the policy for garbage: with
    100,000 grants that is a pause of a third of a second, each time.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        with keeping():
            yield
    finally:
        sys.setswitchinterval(before)


class Followers(Protocol):
    """Others that decide by the same policy: the workers of this issuer."""

    async def prepare(self, generation: Generation) -> None:
        """Let them load a policy, so that it can be put in force everywhere at the same moment."""
        ...

    async def adopt(self, generation: Generation, *, pinned: bool) -> None:
        """Return when each of them decides by this policy. One that does not follow is ended."""
        ...

    def refused(self, fault: str, now: datetime) -> None:
        """Tell them why a policy was not put in force, for their status."""
        ...


class Nobody:
    """No followers."""

    async def prepare(self, generation: Generation) -> None:
        """Do nothing."""

    async def adopt(self, generation: Generation, *, pinned: bool) -> None:
        """Do nothing."""

    def refused(self, fault: str, now: datetime) -> None:
        """Do nothing."""


NOBODY: Final = Nobody()


class PolicyRollout:
    """A :class:`~issuer.ports.PolicyAdmin`.

    Args:
        book: Where policies come from, and the one in force.
        clock: The time of each change.
        ledger: Is told of every change before it takes effect.
        on_change: Runs after another policy was put in force.
        log: Is told of every change and every refusal.
        observer: The same, for metrics.
        followers: Who decides by the same policy.
    """

    def __init__(
        self,
        book: DirectoryPolicyBook,
        *,
        clock: Clock,
        ledger: Ledger,
        on_change: Callable[[], Awaitable[None]],
        log: FilteringBoundLogger,
        observer: PolicyObserver = UNOBSERVED,
        followers: Followers = NOBODY,
    ) -> None:
        self._book = book
        self._clock = clock
        self._ledger = ledger
        self._changing = asyncio.Lock()  # of two loads at once the older could be put in force last
        self._on_change = on_change
        self._log = log
        self._observer = observer
        self._followers = followers

    def status(self) -> PolicyStatus:
        """Return which policy is in force, and which are kept."""
        return self._book.status()

    async def begin(self) -> None:
        """Tell the ledger of the policy that the issuer starts with.

        Raises:
            TemporarilyUnavailable: LEDGER_UNAVAILABLE.
        """
        await self._tell(self._book.status().current, actor="", how="start")

    async def files_changed(self) -> None:
        """Load the files, unless a rollback holds the policy. A fault is told in the log and in the status."""
        if self._book.status().pinned:
            self._log.warning("policy_files_not_followed", digest=self._book.current().digest)
            return
        with suppress(IssuerError):  # told already; the one in force stays
            await self.reload(actor="")

    async def reload(self, *, actor: str) -> Generation:
        """Load the files now, and follow them again after a rollback.

        Args:
            actor: The SPIFFE ID of who asked; empty for the issuer itself.

        Raises:
            AdminRefused: POLICY_INVALID, with every fault; the one in force stays.
            TemporarilyUnavailable: LEDGER_UNAVAILABLE; the one in force stays.
        """
        async with self._changing:
            now = self._clock.now()
            try:
                # In a thread: loading a large policy takes seconds, and the one in force goes on deciding.
                with _giving_way():
                    generation = await asyncio.to_thread(self._book.load, now)
                await self._followers.prepare(generation)
                await self._tell(generation, actor=actor, how="reload")
            except PolicyInvalid as error:
                self._refused(str(error), now)
                raise AdminRefused(Reason.POLICY_INVALID, str(error)) from None
            except TemporarilyUnavailable as error:
                self._refused(error.message, now)
                raise
            self._book.put_in_force(generation)
            await self._followers.adopt(generation, pinned=False)
        self._observer.policy_changed()
        self._log.info("policy_reloaded", digest=generation.policy.digest)
        await self._on_change()
        return generation

    async def roll_back(self, digest: str, *, actor: str) -> Generation:
        """Put a kept policy in force and hold it.

        Raises:
            AdminRefused: POLICY_UNKNOWN.
            TemporarilyUnavailable: LEDGER_UNAVAILABLE; the one in force stays.
        """
        async with self._changing:
            try:
                generation = self._book.kept(digest)
            except KeyError:
                raise AdminRefused(Reason.POLICY_UNKNOWN, "no policy with this digest is kept") from None
            await self._tell(generation, actor=actor, how="rollback")
            self._book.roll_back(digest)
            await self._followers.adopt(generation, pinned=True)
        self._observer.policy_changed()
        self._log.warning("policy_rolled_back", digest=digest)
        await self._on_change()
        return generation

    async def _tell(self, generation: Generation, *, actor: str, how: str) -> None:
        """Keep the policy itself, so that what it decides can be decided again, and that it takes effect."""
        digest = generation.policy.digest
        told = Event(POLICY_IN_FORCE, microseconds(self._clock.now()), actor, detail({"digest": digest, "how": how}))
        await self._ledger.write(KeptPolicy(digest, generation.files), told)

    def _refused(self, fault: str, now: datetime) -> None:
        self._book.refuse(fault, now)
        self._followers.refused(fault, now)
        self._observer.policy_refused()
        self._log.error("policy_reload_refused", error=fault, digest=self._book.current().digest)
