"""Puts policies in force while the issuer runs: when files change, on SIGHUP, and when an operator asks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from issuer.core.errors import AdminRefused, Reason
from issuer.core.policy_faults import PolicyInvalid

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from structlog.typing import FilteringBoundLogger

    from issuer.core.generations import Generation, PolicyStatus
    from issuer.policy_files.directory import DirectoryPolicyBook
    from issuer.ports import Clock


class PolicyRollout:
    """A :class:`~issuer.ports.PolicyAdmin`.

    Args:
        book: Where policies come from, and the one in force.
        clock: The time of each change.
        on_change: Runs after another policy was put in force.
        log: Is told of every change and every refusal.
    """

    def __init__(
        self,
        book: DirectoryPolicyBook,
        *,
        clock: Clock,
        on_change: Callable[[], Awaitable[None]],
        log: FilteringBoundLogger,
    ) -> None:
        self._book = book
        self._clock = clock
        self._on_change = on_change
        self._log = log

    def status(self) -> PolicyStatus:
        """Return which policy is in force, and which are kept."""
        return self._book.status()

    async def files_changed(self) -> None:
        """Load the files, unless a rollback holds the policy. A fault is told in the log and in the status."""
        if self._book.status().pinned:
            self._log.warning("policy_files_not_followed", digest=self._book.current().digest)
            return
        try:
            await self.reload()
        except AdminRefused:
            return  # told already; the one in force stays

    async def reload(self) -> Generation:
        """Load the files now, and follow them again after a rollback.

        Raises:
            AdminRefused: POLICY_INVALID, with every fault; the one in force stays.
        """
        try:
            # In a thread: loading a large policy takes seconds, and the one in force goes on deciding.
            generation = await asyncio.to_thread(self._book.reload, self._clock.now())
        except PolicyInvalid as error:
            self._log.error("policy_reload_refused", error=str(error), digest=self._book.current().digest)
            raise AdminRefused(Reason.POLICY_INVALID, str(error)) from None
        self._log.info("policy_reloaded", digest=generation.policy.digest)
        await self._on_change()
        return generation

    async def roll_back(self, digest: str) -> Generation:
        """Put a kept policy in force and hold it.

        Raises:
            AdminRefused: POLICY_UNKNOWN.
        """
        try:
            generation = self._book.roll_back(digest)
        except KeyError:
            raise AdminRefused(Reason.POLICY_UNKNOWN, "no policy with this digest is kept") from None
        self._log.warning("policy_rolled_back", digest=digest)
        await self._on_change()
        return generation
