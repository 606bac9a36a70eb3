"""Changes the signing keys of a running issuer: when an operator asks, when files change, when tokens are over.

Two steps, and everybody has taken the first one before the second one can be taken. *Prepare*: every worker and the
public listener publish the next key, and each worker has its private half in memory. *Activate*: each signs by it. What
is done is in the ledger before it counts, and in the files before it is answered.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from issuer.core.errors import AdminRefused, Reason, TemporarilyUnavailable
from issuer.core.key_ring import LEEWAY_SECONDS, MICROSECONDS, SETTLE_SECONDS, FormerKey, KeyRing, KeyRingError
from issuer.core.ledger_entries import KEY_ACTIVATED, KEY_PREPARED, KEY_REMOVED
from issuer.signing.key_file import KeyFileError
from issuer.signing.key_folder import HeldKeys
from issuer.waiting import first_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from structlog.typing import FilteringBoundLogger

    from issuer.core.key_ring import KeyTerms
    from issuer.key_sharing import KeySharing
    from issuer.ports import Clock, RevocationBook
    from issuer.signing.key_folder import KeyFolder
    from issuer.signing.signing_keys import SigningKeys

LOOK_SECONDS: Final = 5.0
"""Between two looks at the files, and at what is over."""
T = TypeVar("T")


class KeyFollowers(Protocol):
    """Others that sign and verify by the same keys: the workers of this issuer."""

    async def follow_keys(self, ring: KeyRing) -> None:
        """Return when each of them does so by these. One that does not is ended."""
        ...


class Alone:
    """No followers."""

    async def follow_keys(self, ring: KeyRing) -> None:
        """Do nothing."""


class IssuedTokens(Protocol):
    """What the ledger knows of tokens."""

    async def last_expiry(self, before: int) -> int | None:
        """Return the latest ``exp`` of tokens that were decided before a moment, in microseconds; ``None`` for none.

        Raises:
            TemporarilyUnavailable: LEDGER_UNAVAILABLE.
        """
        ...


class KeyRotation:
    """A :class:`~issuer.ports.KeyAdmin`.

    Args:
        folder: The files.
        keys: The keys at work.
        terms: How long things may be kept.
        clock: The time of each change.
        sharing: The ledger, which is told of every change before it counts.
        revocations: Which keys are revoked.
        tokens: Tells when what a key signed is over.
        followers: Who signs by the same keys.
        log: Is told of every change, and of what is wrong with the files.

    Attributes:
        fault: Why these keys must not be used any more, and what to do; empty while all is well.
    """

    def __init__(
        self,
        folder: KeyFolder,
        keys: SigningKeys,
        *,
        terms: KeyTerms,
        clock: Clock,
        sharing: KeySharing,
        revocations: RevocationBook,
        tokens: IssuedTokens,
        log: FilteringBoundLogger,
        followers: KeyFollowers | None = None,
    ) -> None:
        self._folder = folder
        self._keys = keys
        self._terms = terms
        self._clock = clock
        self._sharing = sharing
        self._revocations = revocations
        self._tokens = tokens
        self._followers = followers or Alone()
        self._log = log
        self._changing = asyncio.Lock()
        self._changes: set[asyncio.Task[KeyRing]] = set()
        self._said = self._unlike = ""
        self.fault = ""

    async def begin(self) -> None:
        """Keep which key signs, before it does, and tell the ledger where that is new or was about to change.

        Raises:
            KeyFileError: What was kept cannot be read.
            KeysNotShared: Issuers that share the ledger have other keys.
            TemporarilyUnavailable: LEDGER_UNAVAILABLE.
        """
        ring = self._keys.ring
        await self._sharing.join(ring)
        if await asyncio.to_thread(self._folder.kept) == ring and ring.next is None:
            return
        await self._keep(ring)
        await self._tell(KEY_ACTIVATED, ring.active.key_id, actor="", how="start")

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the files, and take away keys whose tokens are over, until ``stop``. The public listener is there.

        Where issuers that share the ledger have other keys at two looks in a row (a folder that is kept alike by hand
        may be late), it sets :attr:`fault` and ``stop``: what this issuer publishes, or signs, fails at the others.
        """
        while not stop.is_set():
            async with self._changing:
                before, self._unlike = self._unlike, await self._looked()
            if before and self._unlike:
                self.fault = self._unlike
                stop.set()
            await first_of(stop, within=LOOK_SECONDS)

    async def _looked(self) -> str:
        """Do what is due; return how these keys are unlike those of others."""
        try:
            fault = await self._look()
        except TemporarilyUnavailable as error:
            fault = error.message
        unlike = self._sharing.fault(self._keys.ring)
        self._say(unlike or fault)
        return unlike

    async def listed(self) -> KeyRing:
        """Return the keys."""
        return self._keys.ring

    async def prepare(self, *, actor: str) -> KeyRing:
        """Make the next key and publish it; where there is one, leave it.

        Raises:
            AdminRefused: KEY_CHANGE_REFUSED: too many are published.
            TemporarilyUnavailable: LEDGER_UNAVAILABLE, SIGNER_UNAVAILABLE; nothing was changed.
        """
        return await self._whole(self._prepare(actor))

    async def _prepare(self, actor: str) -> KeyRing:
        async with self._changing:
            await self._follow_now()
            if self._keys.ring.next is None:
                await self._make_next(actor)
            return self._keys.ring

    async def _make_next(self, actor: str) -> None:
        try:
            self._keys.ring.check_room()
        except KeyRingError as error:
            raise AdminRefused(Reason.KEY_CHANGE_REFUSED, str(error)) from None
        await self._in_files(self._folder.make_next)
        try:
            held = await self._found()
            for kind, key_id in _changes(self._keys.ring, held.ring):
                await self._tell(kind, key_id, actor=actor, how="operator")
        except TemporarilyUnavailable:
            await self._in_files(self._folder.drop_next)
            raise
        await self._put_in_force(held)

    async def activate(self, key_id: str, *, force: bool, actor: str) -> KeyRing:
        """Let the next key sign: in every worker when this returns.

        1. Every verifier can know it, or the operator does not want to wait; it is the one in the files; nobody
           revoked it.
        2. The ledger is told.
        3. The files say so: from here on it is the active key, also after a crash.
        4. This process signs by it, then each worker; one that does not is ended.

        Raises:
            AdminRefused: KEY_UNKNOWN, KEY_CHANGE_REFUSED.
            TemporarilyUnavailable: LEDGER_UNAVAILABLE, SIGNER_UNAVAILABLE; nothing was changed.
        """
        return await self._whole(self._activate(key_id, force=force, actor=actor))

    async def _activate(self, key_id: str, *, force: bool, actor: str) -> KeyRing:
        async with self._changing:
            await self._follow_now()
            held = self._keys.held
            ring = held.ring
            if key_id == ring.active.key_id:
                return ring
            if ring.next is None or held.next is None or ring.next.jwk.key_id != key_id:
                raise AdminRefused(Reason.KEY_UNKNOWN, "this is not the next key")
            early = self._check_may_sign(ring, key_id, force=force)  # 1
            await self._tell(KEY_ACTIVATED, key_id, actor=actor, how="forced" if early else "operator")  # 2
            await self._in_files(lambda: self._folder.activate(key_id))  # 3
            await self._put_in_force(HeldKeys(ring.activated(self._now()), held.next, None))  # 4
            return self._keys.ring

    def _check_may_sign(self, ring: KeyRing, key_id: str, *, force: bool) -> bool:
        """Refuse a key that may not sign now; return whether it does so before every verifier can know it."""
        if unlike := self._sharing.fault(ring):
            raise AdminRefused(Reason.KEY_CHANGE_REFUSED, unlike)
        if self._is_revoked(key_id):
            raise AdminRefused(Reason.KEY_CHANGE_REFUSED, "this key is revoked: remove it, and prepare another")
        ready = ring.ready_at(self._terms.max_age)
        if early := ready is None or self._now() < ready:
            if not force:
                until = "it is published" if ready is None else _utc(ready)
                raise AdminRefused(
                    Reason.KEY_CHANGE_REFUSED,
                    f"verifiers may keep a key set without this key until {until}; before that, only by force",
                )
            self._log.warning("key_forced", kid=key_id, what="verifiers that do not look again refuse its tokens")
        return early

    async def remove(self, key_id: str, *, force: bool, actor: str) -> KeyRing:
        """Publish a key no more: the next one, or one that is retired.

        Raises:
            AdminRefused: KEY_UNKNOWN, KEY_CHANGE_REFUSED.
            TemporarilyUnavailable: LEDGER_UNAVAILABLE, SIGNER_UNAVAILABLE.
        """
        return await self._whole(self._remove(key_id, force=force, actor=actor))

    async def _remove(self, key_id: str, *, force: bool, actor: str) -> KeyRing:
        async with self._changing:
            await self._follow_now()
            ring, how = self._keys.ring, "forced" if force else "operator"
            if key_id == ring.active.key_id:
                raise AdminRefused(Reason.KEY_CHANGE_REFUSED, "this key signs: activate another one first")
            if ring.next is not None and ring.next.jwk.key_id == key_id:
                await self._tell(KEY_REMOVED, key_id, actor=actor, how=how)
                await self._in_files(self._folder.drop_next)
                await self._put_in_force(HeldKeys(ring.without_next(), self._keys.active(), None))
                return self._keys.ring
            if (former := ring.find(key_id)) is None:
                raise AdminRefused(Reason.KEY_UNKNOWN, "there is no key of this name")
            if former.gone is None:
                self._check_is_over(former, force=force)
                await self._take_away(former, actor=actor, how=how)
            return self._keys.ring

    async def _whole(self, change: Coroutine[None, None, KeyRing]) -> KeyRing:
        """Let a change come to its end though its caller does not wait for it: half of one must not be."""
        task = asyncio.get_running_loop().create_task(change)
        self._changes.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._changes.discard)
        return await asyncio.shield(task)

    def _check_is_over(self, former: FormerKey, *, force: bool) -> None:
        if not force and not self._is_over(former):
            until = "" if former.over is None else f" until {_utc(former.over)}"
            raise AdminRefused(
                Reason.KEY_CHANGE_REFUSED,
                f"tokens that this key signed may be alive{until}; it goes by itself then, and before only by force",
            )

    async def _take_away(self, former: FormerKey, *, actor: str, how: str) -> None:
        await self._tell(KEY_REMOVED, former.jwk.key_id, actor=actor, how=how)
        ring = self._keys.ring.with_former(former._replace(gone=self._now()))
        await self._put_in_force(self._keys.held._replace(ring=ring))

    async def _look(self) -> str:
        """Do what is due; return what is wrong with the files."""
        await self._mark_published()
        try:
            fault = await self._follow_files()
        except TemporarilyUnavailable as error:
            fault = error.message
        for former in self._keys.ring.former:
            if former.over is None and former.retired + SETTLE_SECONDS <= self._now():
                await self._settle(former)
        for former in self._keys.ring.former:
            if former.gone is None and self._is_over(former):
                await self._take_away(former, actor="", how="over")
        return fault

    async def _mark_published(self) -> None:
        ring = self._keys.ring.with_published(self._now())
        if ring != self._keys.ring:
            await self._keep(ring)
            self._keys.use(self._keys.held._replace(ring=ring))

    async def _settle(self, former: FormerKey) -> None:
        """Find out when what a key signed is over: no call that it could sign for is under way any more."""
        last = await self._tokens.last_expiry((former.retired + SETTLE_SECONDS) * MICROSECONDS)
        over = max(last or 0, former.retired + self._terms.lists) + LEEWAY_SECONDS
        ring = self._keys.ring.with_former(former._replace(over=over))
        await self._keep(ring)
        self._keys.use(self._keys.held._replace(ring=ring))

    async def _follow_files(self) -> str:
        """Use the keys that are in the files: another issuer that shares them may have changed them, or a person.

        Returns:
            What is wrong with them, so that they are not used; ``""`` for nothing.

        Raises:
            TemporarilyUnavailable: SIGNER_UNAVAILABLE, LEDGER_UNAVAILABLE.
        """
        found, ring = await self._found(), self._keys.ring
        if found.ring.active not in (ring.active, ring.next and ring.next.jwk):
            return f"{self._folder.file} holds a key that is not published: put it at {self._folder.next_file}"
        if found.ring != ring:
            for kind, key_id in _changes(ring, found.ring):
                await self._tell(kind, key_id, actor="", how="files")
            await self._put_in_force(found)
        return ""

    async def _follow_now(self) -> None:
        """Let a change begin from what the files hold: another issuer may have changed them a moment ago."""
        if fault := await self._follow_files():
            raise AdminRefused(Reason.KEY_CHANGE_REFUSED, fault)

    async def _put_in_force(self, held: HeldKeys) -> None:
        """Use other keys: here, in the public listener, which watches these, and in all workers."""
        await self._keep(held.ring)
        self._keys.use(held)
        await self._followers.follow_keys(held.ring)
        await self._mark_published()

    async def _keep(self, ring: KeyRing) -> None:
        try:
            await asyncio.to_thread(self._folder.keep, ring)
        except KeyFileError as error:
            # The keys are good without: what is lost at a restart is which keys signed before.
            self._log.warning("keys_not_kept", error=str(error))

    async def _found(self) -> HeldKeys:
        ring, now = self._keys.ring, self._now()
        return await self._in_files(lambda: self._folder.open(now, ring))

    async def _in_files(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(work)
        except KeyFileError as error:
            raise TemporarilyUnavailable(Reason.SIGNER_UNAVAILABLE, str(error)) from None

    async def _tell(self, kind: str, key_id: str, *, actor: str, how: str) -> None:
        await self._sharing.tell(kind, key_id, actor=actor, how=how)
        self._log.info(kind, kid=key_id, how=how, actor=actor or None)

    def _is_over(self, former: FormerKey) -> bool:
        """Return whether nothing that a key signed is good any more: its time has passed, or it is revoked for good."""
        return (former.over is not None and former.over <= self._now()) or self._is_revoked(former.jwk.key_id)

    def _is_revoked(self, key_id: str) -> bool:
        return any(each.selector.key == key_id for each in self._revocations.by_attributes)

    def _now(self) -> int:
        return int(self._clock.now().timestamp())

    def _say(self, fault: str) -> None:
        """Log what is wrong with the keys, or with what is to be done about them, once."""
        if fault and fault != self._said:
            self._log.error("keys_refused", error=fault)
        self._said = fault


def _changes(before: KeyRing, after: KeyRing) -> Iterator[tuple[str, str]]:
    """Yield what happened to which key, as the kinds of its event."""
    if after.active != before.active:
        yield KEY_ACTIVATED, after.active.key_id
    elif before.next is not None and (after.next is None or after.next.jwk != before.next.jwk):
        yield KEY_REMOVED, before.next.jwk.key_id
    if after.next is not None and (before.next is None or after.next.jwk != before.next.jwk):
        yield KEY_PREPARED, after.next.jwk.key_id
    for former in after.former:
        known = before.find(former.jwk.key_id)
        if former.gone is not None and (known is None or known.gone is None):
            yield KEY_REMOVED, former.jwk.key_id


def _utc(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
