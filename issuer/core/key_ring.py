"""The issuer's keys as verifiers know them: which signs, which comes next, which have signed before. Pure.

A key is *next* (published, does not sign yet), *active* (signs), *retired* (signs no more, and is published until the
last token that it signed is over), and then *gone*: not published, and still known, for it signed checkpoints. A key
signs only after it was published for as long as a verifier may keep the key set, so none meets a ``kid`` that it cannot
know. Times are Unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from issuer.core.jwk import PublicJwk, PublicKeySet

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTLE_SECONDS: Final = 60
"""Calls that were under way when a key was retired have ended by then, and been recorded: none may take longer than its
own deadline and `[ledger] max_wait`, a minute in all. Clocks of issuers that share a ledger differ by less."""
SPREAD_SECONDS: Final = 10
"""Until a key set that changed is what everybody is given: by our own public listener at once, and by other issuers
that share the folder of keys within two looks at it."""
LEEWAY_SECONDS: Final = 60
"""Verifiers take a token for so long after its ``exp``, by clocks that differ; ours allow 5 s."""
MAX_PUBLISHED: Final = 16
"""Keys in the set at once: 4 KiB of JSON, which small clients still read. A rotation a minute for a quarter of an hour
takes as many."""
MAX_KNOWN: Final = 1_000
"""Keys that are remembered, at 0.3 KiB each; monthly rotations come to so many in 80 years. The oldest are
forgotten."""
MICROSECONDS: Final = 1_000_000


class KeyRingError(Exception):
    """Keys that cannot be used together. The message says why, for a person."""


class KeyState(StrEnum):
    """What a key is there for."""

    NEXT = "next"
    ACTIVE = "active"
    RETIRED = "retired"
    GONE = "gone"


class KeyTerms(NamedTuple):
    """How long what is published or signed may be kept, in seconds.

    Attributes:
        max_age: The key set.
        lists: A status list.
    """

    max_age: int
    lists: int


class NextKey(NamedTuple):
    """A key that does not sign yet.

    Attributes:
        jwk: The key.
        published: Since when it is in the published set; ``None`` for not yet.
    """

    jwk: PublicJwk
    published: int | None = None


class FormerKey(NamedTuple):
    """A key that signs no more.

    Attributes:
        jwk: The key.
        since: When it became the active one; 0 for the first.
        retired: When it ceased to be.
        over: When nothing that it signed is good any more; ``None`` while that is not known.
        gone: When it was taken out of the published set; ``None`` while it is in it.
    """

    jwk: PublicJwk
    since: int
    retired: int
    over: int | None = None
    gone: int | None = None

    @property
    def state(self) -> KeyState:
        """Whether it is still published."""
        return KeyState.RETIRED if self.gone is None else KeyState.GONE


@dataclass(frozen=True, slots=True)
class KeyRing:
    """All keys of an issuer, their public halves.

    Attributes:
        active: The one that signs.
        since: When it became that; 0 for the first.
        next: The one that will sign next.
        former: Those that signed before, the newest first.
    """

    active: PublicJwk
    since: int = 0
    next: NextKey | None = None
    former: tuple[FormerKey, ...] = ()

    @property
    def published(self) -> PublicKeySet:
        """What verifiers are given."""
        retired = tuple(each.jwk for each in self.former if each.gone is None)
        return PublicKeySet((self.active, *self._next, *retired))

    @property
    def known(self) -> PublicKeySet:
        """The same with the keys that are gone, for what is kept for longer than any token lives."""
        return PublicKeySet((self.active, *self._next, *(each.jwk for each in self.former)))

    @property
    def _next(self) -> tuple[PublicJwk, ...]:
        return (self.next.jwk,) if self.next else ()

    def ready_at(self, max_age: int) -> int | None:
        """Return from when on the next key may sign; ``None`` while it is not published.

        Args:
            max_age: Seconds that a verifier may keep the key set.
        """
        if self.next is None or self.next.published is None:
            return None
        return self.next.published + max_age + SPREAD_SECONDS

    def check_room(self) -> None:
        """Refuse one more key where as many are published as may be.

        Raises:
            KeyRingError: There is no room.
        """
        if len(self.published.keys) >= MAX_PUBLISHED:
            raise KeyRingError(f"{MAX_PUBLISHED} keys are published already: wait until the first of them are over")

    def with_published(self, now: int) -> KeyRing:
        """Return the ring as it is when its next key is in the published set from now on."""
        if self.next is None or self.next.published is not None:
            return self
        return replace(self, next=self.next._replace(published=now))

    def without_next(self) -> KeyRing:
        """Return the ring without its next key."""
        return replace(self, next=None)

    def activated(self, now: int) -> KeyRing:
        """Return the ring as it is when the next key signs, and the one before is retired.

        Raises:
            KeyRingError: There is no next key.
        """
        if self.next is None:
            raise KeyRingError("there is no next key")
        retired = FormerKey(self.active, self.since, now)
        return KeyRing(self.next.jwk, now, None, (retired, *self.former)[:MAX_KNOWN])

    def with_former(self, key: FormerKey) -> KeyRing:
        """Return the ring with this in the place of the former key of the same ``kid``."""
        former = tuple(key if each.jwk == key.jwk else each for each in self.former)
        return replace(self, former=former)

    def find(self, key_id: str) -> FormerKey | None:
        """Return a former key by its ``kid``."""
        return next((each for each in self.former if each.jwk.key_id == key_id), None)

    def signed_from(self, key_id: str) -> tuple[int, int | None] | None:
        """Return between which moments what a key signed was decided, in microseconds; ``None`` for no such key.

        A little more, on both sides: what was decided just before a change may be signed just after it.
        """
        if key_id == self.active.key_id:
            return _loosely(self.since), None
        former = self.find(key_id)
        return former and (_loosely(former.since), (former.retired + SETTLE_SECONDS) * MICROSECONDS)

    def may_have_signed(self, time: int) -> Iterator[str]:
        """Yield the ``kid`` of each key that may have signed what was decided at a moment, in microseconds."""
        for key_id in (self.active.key_id, *(each.jwk.key_id for each in self.former)):
            between = self.signed_from(key_id)
            if between and between[0] <= time and (between[1] is None or time < between[1]):
                yield key_id


def ring_found(active: PublicJwk, coming: PublicJwk | None, kept: KeyRing | None, now: int) -> KeyRing:
    """Return the ring of the keys that are in the files.

    Whatever happened in between, a key that signed stays in it: what is kept names the active key before that signs.

    Args:
        active: The key in the file of the active one.
        coming: That in the file of the next one, if there is one.
        kept: The ring as it was kept last; ``None`` where none was.
        now: The time.

    Raises:
        KeyRingError: The active or the next key is one that was taken away, or has signed before.
    """
    since, published = 0, None
    former: tuple[FormerKey, ...] = ()
    if kept is not None:
        published = kept.next.published if kept.next and kept.next.jwk == coming else None
        since, former = kept.since, kept.former
        if kept.active != active:
            back = kept.find(active.key_id)
            since, former = (now if back is None else back.since), (FormerKey(kept.active, kept.since, now), *former)
    if any(each.jwk == active and each.gone is not None for each in former):
        raise KeyRingError(f"the key {active.key_id} was taken away, and may not sign again")
    former = tuple(each for each in former if each.jwk != active)
    if coming is None or coming == active:
        return KeyRing(active, since, None, former)
    if any(each.jwk == coming for each in former):
        raise KeyRingError(f"the key {coming.key_id} has signed before: a next key is a new one")
    return KeyRing(active, since, NextKey(coming, published), former)


def _loosely(since: int) -> int:
    return max(since - SETTLE_SECONDS, 0) * MICROSECONDS
