"""The facts of one process: what feeders tell, what files of a folder say, and what is asked for outside."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from issuer.facts.authzen import AuthzenSettings, AuthzenSource
from issuer.facts.book import Facts
from issuer.facts.folder import FolderFeeder
from issuer.facts.store import FactStore
from issuer.watching import watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AsyncExitStack

    from structlog.typing import FilteringBoundLogger

    from issuer.config_sections import FactsSection
    from issuer.policy_files.directory import DirectoryPolicyBook
    from issuer.ports import Clock
    from issuer.telemetry_keeping import TelemetryKeeping


class FactKeeping:
    """Keeps them; the folder is read at once, and again whenever its files or the policy's types of fact change.

    Args:
        config: Which folder, and who is asked outside.
        policies: The policy, which says what types of fact there are.
        clock: The time.
        telemetry: Is told what is kept and what cannot be read.
        log: Likewise.
        on_change: Runs when a fact changed, in whichever thread changed it.
    """

    def __init__(
        self,
        config: FactsSection,
        policies: DirectoryPolicyBook,
        *,
        clock: Clock,
        telemetry: TelemetryKeeping,
        log: FilteringBoundLogger,
        on_change: Callable[[], None],
    ) -> None:
        self._config = config
        self._policies = policies
        self._clock = clock
        self._telemetry = telemetry
        self._log = log
        self.store = FactStore()
        self.store.on_change = on_change
        self._feeder = FolderFeeder(config.folder, self.store) if config.folder is not None else None
        if self._feeder is not None:
            self._report(self._feeder, self._read(self._feeder))

    def book(self, stack: AsyncExitStack) -> Facts:
        """Return where decisions look facts up; who is asked outside is let go of with ``stack``."""
        sources = [
            AuthzenSource(
                AuthzenSettings(**{**dict(section), "types": frozenset(section.types)}),
                log=self._log,
                monotonic=time.monotonic,
            )
            for section in self._config.authzen
        ]
        for source in sources:
            stack.push_async_callback(source.close)
        self._telemetry.watch_facts(self.store, sources)
        return Facts(self.store, sources)

    async def read_again(self) -> None:
        """Read the folder, if there is one; what cannot be read is reported."""
        if self._feeder is not None:
            self._report(self._feeder, await asyncio.to_thread(self._read, self._feeder))

    async def follow(self, stop: asyncio.Event) -> None:
        """Read the folder again whenever its files change, until told to stop."""
        if self._feeder is not None:  # reading facts again costs little: once more at the first look
            await watch(self._feeder.folder, self.read_again, stop, seen=frozenset())

    def _read(self, feeder: FolderFeeder) -> list[str]:
        return feeder.read(self._policies.current().fact_types, self._clock.now())

    def _report(self, feeder: FolderFeeder, faults: list[str]) -> None:
        for fault in faults:
            self._log.error("facts_refused", error=fault)
        self._telemetry.fact_files_read(len(faults))
        self._log.info("facts_read", folder=str(feeder.folder), refused_files=len(faults))
