"""Tells the ledger what is done with signing keys, and whether the issuers that share it have the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from issuer.core.errors import Reason, TemporarilyUnavailable
from issuer.core.instants import microseconds
from issuer.core.ledger_entries import KEY_ACTIVATED, KEY_REMOVED, Event, detail
from issuer.ports import ClaimTaken

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from issuer.core.key_ring import KeyRing
    from issuer.core.key_ring_shared import KeysOfLedger
    from issuer.core.ledger_entries import Entry, StepTaken
    from issuer.ports import Clock, Ledger

MAX_TRIES: Final = 16
"""So often another issuer may tell of a key at the same moment; each does so once for each key."""


class KeysNotShared(Exception):
    """Issuers of the same ledger have other keys. The message says what to do, for a person."""


class KeySharing:
    """The ledger, as far as it is about keys.

    Args:
        ledger: Is told.
        shared: The keys of all issuers that share it; ``None`` where it is not shared.
        clock: When it was told.
    """

    def __init__(self, ledger: Ledger, shared: KeysOfLedger | None, clock: Clock) -> None:
        self._ledger = ledger
        self._shared = shared
        self._clock = clock

    def fault(self, ring: KeyRing) -> str:
        """Return why an issuer with these keys must not serve, and what to do; ``""`` where nothing is wrong."""
        if self._shared is None:
            return ""
        return self._shared.fault(ring.active.key_id, {each.key_id for each in ring.known.keys})

    async def join(self, ring: KeyRing) -> None:
        """Tell of the keys that sign, or have signed, unless the ledger knows of them.

        Raises:
            KeysNotShared: Issuers that share the ledger have others.
            TemporarilyUnavailable: LEDGER_UNAVAILABLE.
        """
        coming = ring.next and ring.next.jwk
        signed = [each.key_id for each in ring.published.keys if each != coming]

        def entries() -> list[StepTaken]:
            if fault := self.fault(ring):
                raise KeysNotShared(fault)
            return self._shared.adding(signed, microseconds(self._clock.now())) if self._shared else []

        await self._write(entries)

    async def tell(self, kind: str, key_id: str, *, actor: str, how: str) -> None:
        """Tell what is about to be done with a key.

        Args:
            kind: The kind of its event.
            key_id: Its ``kid``.
            actor: Who does it; empty for the issuer itself.
            how: Why, as docs/LEDGER.md lists it.

        Raises:
            TemporarilyUnavailable: LEDGER_UNAVAILABLE.
        """

        def entries() -> list[Entry]:
            now = microseconds(self._clock.now())
            told = Event(kind, now, actor, detail({"kid": key_id, "how": how}))
            return [told, *self._steps(kind, key_id, now)]

        await self._write(entries)

    def _steps(self, kind: str, key_id: str, now: int) -> Sequence[StepTaken]:
        if self._shared is None:
            return ()
        if kind == KEY_ACTIVATED:
            return self._shared.adding([key_id], now)
        return self._shared.removing(key_id, now) if kind == KEY_REMOVED else ()

    async def _write(self, entries: Callable[[], Sequence[Entry]]) -> None:
        """Write what is to be told, made anew as long as others tell something meanwhile."""
        for _ in range(MAX_TRIES):
            if not (told := entries()):
                return
            try:
                await self._ledger.write(*told)
            except ClaimTaken:  # and the ledger has learned of it
                continue
            return
        raise TemporarilyUnavailable(Reason.LEDGER_UNAVAILABLE, "other issuers tell of keys all the time")
