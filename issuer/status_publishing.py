"""Keeps the status lists: sets the entries of tokens that were revoked, signs each list, and has it shown.

A list is signed when it is new, when one of its entries changed, and again at every ``ttl``, so that whoever asks gets
one that is no older. While it is not known what was revoked nothing is signed: what was signed before runs out.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from issuer.core.errors import IssuerError
from issuer.core.metadata import STATUS_LISTS_PATH, status_list_uri
from issuer.core.status_index import LIST_SIZE, over_at
from issuer.core.status_list import STATUS_LIST_TYPE, ListTerms, StatusList, status_list_payload
from issuer.core.token import compact_token, signing_input
from issuer.waiting import first_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from structlog.typing import FilteringBoundLogger

    from issuer.core.revocation import Issued, Revocation
    from issuer.core.status_index import BlocksTaken
    from issuer.ports import Clock, RevocationBook, Signer

ONE_BY_ONE: Final = 8
"""Of so many new revocations by attributes each is asked the database; of more, each token is looked at once."""
IDS_AT_ONCE: Final = 100_000
"""Revoked tokens looked up in one read, after a restart: a second or so."""
RETRY_SECONDS: Final = 1.0
"""After what could not be read or signed."""
SIGNED_BETWEEN_TURNS: Final = 8
"""Other work gets a turn after so many lists: at about 0.1 ms each."""


class StatusMarks(Protocol):
    """Which entries the tokens have that were revoked. Times are Unix seconds.

    Every method raises TemporarilyUnavailable, LEDGER_UNAVAILABLE, when that cannot be read.
    """

    async def of_tokens(self, token_ids: Collection[str], now: int) -> set[int]:
        """Return the entries of the living tokens of these ids, and of those that rest on one of them."""
        ...

    async def of_revocation(self, revocation: Revocation, now: int) -> set[int]:
        """Return the entries of the living tokens that a revocation by attributes killed."""
        ...

    async def of_killed(self, kills: Callable[[Issued, int], bool], now: int) -> set[int]:
        """Return the entries of the living tokens that are dead; asks that, in another thread, for each of them."""
        ...


class SignedWhen(Protocol):
    """When which of the issuer's keys signed. Times are microseconds since 1970 UTC."""

    def signed_from(self, key_id: str) -> tuple[int, int | None] | None:
        """Return between which moments what a key signed was decided; ``None`` for a key that is none of ours."""
        ...

    def may_have_signed(self, time: int) -> Iterable[str]:
        """Return the ``kid`` of each key that may have signed what was decided at a moment."""
        ...


class Publishing(NamedTuple):
    """How lists are published.

    Attributes:
        issuer: Our URL.
        ttl: Seconds after which whoever keeps a list fetches it again.
        valid_for: Seconds until it must not be used any more.
    """

    issuer: str
    ttl: int
    valid_for: int


@dataclass(slots=True)
class _Kept:
    """A list, when it was signed last (Unix seconds, 0 for never) and by which key, and whether it changed since."""

    listed: StatusList = field(default_factory=lambda: StatusList(LIST_SIZE))
    signed_at: int = 0
    signed_by: str = ""
    changed: bool = True


class StatusPublisher:
    """Publishes the lists of every issuer that shares the ledger. Of one event loop.

    Args:
        publishing: How.
        revocations: Those that hold.
        is_current: Whether these are the ledger's: not while it cannot be reached.
        blocks: Which lists there are.
        marks: Which entries were revoked.
        signer: The key.
        keys: When which key signed.
        clock: The time.
        show: Shows a signed list: its name, its text (empty to show it no more), and how many seconds it may be cached.
        log: Is told when lists cannot be kept, and when they can again.
    """

    def __init__(
        self,
        publishing: Publishing,
        *,
        revocations: RevocationBook,
        is_current: Callable[[], bool],
        blocks: BlocksTaken,
        marks: StatusMarks,
        signer: Signer,
        keys: SignedWhen,
        clock: Clock,
        show: Callable[[str, str, int], None],
        log: FilteringBoundLogger,
    ) -> None:
        self._publishing = publishing
        self._revocations = revocations
        self._is_current = is_current
        self._blocks = blocks
        self._marks = marks
        self._signer = signer
        self._keys = keys
        self._clock = clock
        self._show = show
        self._log = log
        self._changed = asyncio.Event()
        self._kept: dict[int, _Kept] = {}
        self._seen = 0
        self._fault = ""

    def key_changed(self) -> None:
        """Sign all lists again, by the key of now."""
        self._changed.set()

    async def run(self) -> None:
        """Keep the lists until cancelled."""
        changed = self._changed
        forget = (self._revocations.watch(changed.set), self._blocks.watch(changed.set))
        try:
            while True:
                changed.clear()
                pause = await self._publish()
                await first_of(changed, within=pause)
        finally:
            for each in forget:
                each()

    async def _publish(self) -> float:
        """Do what is due; return for how many seconds there is nothing more."""
        try:
            await self._mark_revoked()
            pause = await self._sign_due()
        except IssuerError as error:
            self._tell(error.message)
            return RETRY_SECONDS
        self._tell("")
        return pause

    async def _mark_revoked(self) -> None:
        """Set the entries of what was revoked since the last look; at the first, of everything."""
        now = int(self._clock.now().timestamp())
        seen, version = self._seen, self._revocations.version
        if version == seen:
            return
        by_attributes = [each for each in self._revocations.by_attributes if each.version > seen]
        tokens = [token.token_id for token in self._revocations.tokens_after(seen)]
        for start in range(0, len(tokens), IDS_AT_ONCE):
            self._invalidate(await self._marks.of_tokens(tokens[start : start + IDS_AT_ONCE], now))
        if len(by_attributes) > ONE_BY_ONE:
            self._invalidate(await self._marks.of_killed(self._kills, now))
        else:
            for revocation in by_attributes:
                if (narrowed := self._narrowed(revocation)) is not None:
                    self._invalidate(await self._marks.of_revocation(narrowed, now))
        self._seen = version

    def _narrowed(self, revocation: Revocation) -> Revocation | None:
        """Return a revocation as the ledger can be asked for it, which does not know who signed what; it knows when.

        ``None`` for one of a key that is none of ours: no other key signs what anybody takes.
        """
        if (key := revocation.selector.key) is None:
            return revocation
        if (between := self._keys.signed_from(key)) is None:
            return None
        begin, end = between
        return replace(revocation, selector=replace(revocation.selector, issued_from=begin, issued_until=end))

    def _kills(self, issued: Issued, seq: int) -> bool:
        keys = self._keys.may_have_signed(issued.time)
        return any(self._revocations.killing(issued._replace(key=key), seq) is not None for key in keys)

    def _invalidate(self, entries: Iterable[int]) -> None:
        by_list: dict[int, list[int]] = {}
        for number in entries:
            by_list.setdefault(number // LIST_SIZE, []).append(number % LIST_SIZE)
        for list_number, indexes in by_list.items():
            kept = self._kept.setdefault(list_number, _Kept())
            kept.changed = kept.listed.invalidate(indexes) or kept.changed

    async def _sign_due(self) -> float:
        now = self._clock.now().timestamp()
        self._retire(now)
        if not self._is_current():
            return RETRY_SECONDS
        for list_number in self._blocks.lists:
            self._kept.setdefault(list_number, _Kept())
        pause = self._publishing.ttl - now % self._publishing.ttl
        signed = 0
        for list_number, kept in sorted(self._kept.items()):
            kept.changed = kept.changed or kept.signed_by != self._signer.active().key_id
            wait = _seconds_to_wait(kept, now, self._publishing.ttl)
            if wait:
                pause = min(pause, wait)
                continue
            self._sign(list_number, kept, now)
            signed += 1
            if signed % SIGNED_BETWEEN_TURNS == 0:
                await asyncio.sleep(0)
        return pause

    def _retire(self, now: float) -> None:
        self._blocks.forget(now)
        for list_number in [each for each in self._kept if over_at(each) <= now]:
            del self._kept[list_number]
            self._show(str(list_number), "", 0)

    def _sign(self, list_number: int, kept: _Kept, now: float) -> None:
        issuer, ttl, valid_for = self._publishing
        issued_at = int(now) if now >= kept.signed_at + 1 else kept.signed_at + 1
        terms = ListTerms(
            issuer=issuer,
            uri=status_list_uri(issuer, list_number),
            aggregation_uri=issuer + STATUS_LISTS_PATH,
            issued_at=issued_at,
            valid_for=valid_for,
            ttl=ttl,
        )
        payload = status_list_payload(kept.listed, terms)
        signer = self._signer.active()
        to_sign = signing_input(signer.algorithm, signer.key_id, payload, STATUS_LIST_TYPE)
        text = compact_token(to_sign, signer.sign(to_sign)).reveal()
        kept.signed_at, kept.signed_by, kept.changed = issued_at, signer.key_id, False
        self._show(str(list_number), text, ttl)

    def _tell(self, fault: str) -> None:
        if fault == self._fault:
            return
        self._fault = fault
        if fault:
            self._log.error("status_lists_not_kept", error=fault)
        else:
            self._log.info("status_lists_kept")


def _seconds_to_wait(kept: _Kept, now: float, ttl: int) -> float:
    """Return for how long a list is not signed; 0 for one that is due.

    One that changed is signed at once, but in no second in which it was signed before: the newer of two is told by its
    ``iat``. Where the clock was set back, that is not waited for. One that has not is signed when a multiple of its
    ``ttl`` has passed, by all who share the ledger at the same time: nobody meets an older one at another of them.
    """
    if kept.changed:
        left = kept.signed_at + 1 - now
        return left if 0 < left <= 1 else 0.0
    return 0.0 if now // ttl != kept.signed_at // ttl else ttl
