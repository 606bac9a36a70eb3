"""Tells resource servers which tokens are dead, in terms of what a verifier sees of a token."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from issuer.core.errors import AdminRefused, Reason, RpcNotAllowed
from issuer.core.revocation import MAX_TTL_MICROSECONDS
from issuer.dead_descendants import DeadDescendants
from issuer.waiting import first_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence

    from issuer.core.recorded_tokens import LivingToken, RevokedToken
    from issuer.core.revocation import Revocation
    from issuer.dead_descendants import DeadDescendant
    from issuer.issuance import Asked
    from issuer.ports import Clock, PolicyBook, RevocationBook, TokenBook

HEARTBEAT_SECONDS: Final = 2.0
"""So often a server hears that it knows all, and whether its own SVID is still valid is looked at."""
MAX_STREAMS: Final = 1_000
MAX_STREAMS_EACH: Final = 64
"""Of one SPIFFE ID: replicas of a server share one."""
IDS_AT_ONCE: Final = 1_000
"""Token ids in one message: about 25 KB."""
MAX_EXPANDED: Final = 100_000
"""Tokens of one revocation that are told one by one; of more the whole audience is told, which is more than was hit."""


@dataclass(frozen=True, slots=True)
class DeadTokens:
    """Tokens that are dead: those for which all that is set is so. Times are Unix seconds.

    Attributes:
        revocation_id: Which revocation; empty for single tokens.
        token_ids: Their ``jti``.
        token_ends: The ``exp`` of each of these.
        workload: Their ``client_id``, exactly or by a pattern.
        application: Their ``application``.
        audience: Their ``aud``.
        key_id: Their ``kid``.
        issued_from: Their ``iat`` is not below.
        issued_until: Their ``iat`` is not above.
        forget_at: Without ids: from then on there is no such token; ``None`` while there may be.
    """

    revocation_id: str = ""
    token_ids: tuple[str, ...] = ()
    token_ends: tuple[int, ...] = ()
    workload: str = ""
    application: str = ""
    audience: str = ""
    key_id: str = ""
    issued_from: int | None = None
    issued_until: int | None = None
    forget_at: int | None = None


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a stream is about: the ``iss`` of the tokens, the ledger, their audiences, and whether it was resumed."""

    issuer: str
    ledger: str
    audiences: tuple[str, ...]
    resumed: bool


@dataclass(frozen=True, slots=True)
class News:
    """What a stream tells at once.

    Attributes:
        dead: The tokens.
        position: Up to where all was told; ``None`` while there is more of the same, or when it is not known.
        beginning: What it is about, in the first.
    """

    dead: Sequence[DeadTokens] = ()
    position: int | None = None
    beginning: Beginning | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """Up to where an earlier stream told all, and of which ledger; empty where the caller does not say."""

    version: int
    ledger: str = ""


class RevocationFeed:
    """Streams of revocations. A stream is no more than its position: nothing is buffered for one who is slow.

    Args:
        revocations: Those that hold.
        policies: The policy in force, which says who serves an audience.
        tokens: What the ledger knows of tokens.
        clock: Until when a token has to be told of.
        is_current: Whether the revocations are those of the ledger: not while it cannot be reached.
        issuer: The ``iss`` of the tokens.
        ledger: Asked for the ledger's id.
    """

    def __init__(
        self,
        *,
        revocations: RevocationBook,
        policies: PolicyBook,
        tokens: TokenBook,
        clock: Clock,
        is_current: Callable[[], bool],
        issuer: str,
        ledger: Callable[[], str],
    ) -> None:
        self._revocations = revocations
        self._policies = policies
        self._tokens = tokens
        self._clock = clock
        self._is_current = is_current
        self._issuer = issuer
        self._ledger = ledger
        self._descendants = DeadDescendants(revocations, tokens, clock)
        self._streams: Counter[str] = Counter()

    async def follow(self, asked: Asked, after: Position | None) -> AsyncGenerator[News | None, None]:
        """Tell what is dead, and what dies; ``None`` where nothing is known for a while.

        Ends when the audiences that the caller serves change: it asks again then.

        Raises:
            RpcNotAllowed: The caller serves no audience.
            AdminRefused: TOO_MANY_WATCHES.
        """
        audiences = self._served(asked)
        if not audiences:
            raise RpcNotAllowed("this caller serves no audience")
        caller = str(asked.caller.spiffe_id)
        if self._streams[caller] >= MAX_STREAMS_EACH or self._streams.total() >= MAX_STREAMS:
            raise AdminRefused(Reason.TOO_MANY_WATCHES, "as many streams are open as may be")
        changed = asyncio.Event()
        forget = self._revocations.watch(changed.set)
        self._streams[caller] += 1
        try:
            begun, position = self._begun(audiences, after)
            yield News(beginning=begun)
            told, descendants = False, self._descendants.first_of(position)
            while self._served(asked) == audiences:
                changed.clear()
                version = self._revocations.version
                if version > position or not told:
                    async for dead in self._since(position, audiences):
                        yield News(dead)
                    position, told = version, True
                known = await self._descendants.look()
                for died in self._descendants.from_number(descendants):
                    descendants = died.number + 1
                    if died.audience in audiences:
                        yield News([_one(died)])
                # What came while the pages were read is told next: the position is that of before.
                yield News(position=position) if known and self._is_current() else None
                if self._revocations.version == position:
                    await first_of(changed, within=HEARTBEAT_SECONDS)
        finally:
            self._streams[caller] -= 1
            forget()

    def _begun(self, audiences: frozenset[str], after: Position | None) -> tuple[Beginning, int]:
        """Return how a stream begins, and after which version."""
        ledger, version = self._ledger(), self._revocations.version
        start = 0 if after is None else after.version
        # A later position of this very ledger was told by a replica that learned of it first.
        resumed = after is not None and (after.ledger == ledger or (not after.ledger and start <= version))
        return Beginning(self._issuer, ledger, tuple(sorted(audiences)), resumed), min(start, version) * resumed

    def _served(self, asked: Asked) -> frozenset[str]:
        served = self._policies.current().audiences.values()
        caller = asked.caller.spiffe_id
        return frozenset(rule.name for rule in served if any(server.matches(caller) for server in rule.servers))

    async def _since(self, position: int, audiences: frozenset[str]) -> AsyncIterator[Sequence[DeadTokens]]:
        """Yield what changed after a version, a part at a time."""
        single = [token for token in self._revocations.tokens_after(position) if token.audience in audiences]
        for audience in sorted(audiences):
            for dead in _one_by_one([token for token in single if token.audience == audience], audience):
                yield [dead]
        for revocation in self._revocations.by_attributes:
            concerned = (
                audiences if revocation.selector.audience is None else audiences & {revocation.selector.audience}
            )
            if revocation.version > position and concerned:
                async for dead in self._dead_by(revocation, concerned):
                    yield [dead]

    async def _dead_by(self, revocation: Revocation, audiences: frozenset[str]) -> AsyncIterator[DeadTokens]:
        selector = revocation.selector
        if selector.rule is None and selector.policy is None and selector.basis is None:
            yield by_claims(revocation)
            return
        for audience in sorted(audiences):  # what gave a token, and what it rests on, is in the record alone
            narrowed = replace(selector, audience=audience)
            now = int(self._clock.now().timestamp())
            hits = await self._tokens.hits(narrowed, now, MAX_EXPANDED)
            if hits.tokens > MAX_EXPANDED:
                yield replace(by_claims(revocation), audience=audience)
                continue
            tokens = [token for token in hits.newest if token.seq <= revocation.decisions]
            for dead in _one_by_one(tokens, audience, revocation.id):
                yield dead


def by_claims(revocation: Revocation) -> DeadTokens:
    """Return what a verifier can see of the tokens that are dead by a revocation.

    ``iat`` counts whole seconds, so bounds are a part of a second wider than the revocation, never narrower. While
    issuance is stopped there is no last moment: no token that it hits is issued, and the clock of the issuer of one
    before may have been ahead. Where the stop ended, that is the last moment.
    """
    selector = revocation.selector
    return DeadTokens(
        revocation_id=revocation.id,
        workload="" if selector.workload is None else selector.workload.text,
        application=selector.application or "",
        audience=selector.audience or "",
        key_id=selector.key or "",
        issued_from=None if selector.issued_from is None else selector.issued_from // 1_000_000,
        issued_until=_last_second(revocation),
        forget_at=_forget_at(revocation),
    )


def _last_second(revocation: Revocation) -> int | None:
    ends = [revocation.selector.issued_until]
    if revocation.stops_issuance:
        ends += [revocation.until, None if revocation.lifted is None else revocation.lifted.time]
    else:
        ends.append(revocation.time)
    return min((end // 1_000_000 for end in ends if end is not None), default=None)


def _forget_at(revocation: Revocation) -> int | None:
    """Return when the last token that it can hit has expired, as :meth:`Revocation.matters` has it."""
    if revocation.selector.key is not None:
        return None
    stops = revocation.stops_issuance and revocation.lifted is None
    if stops and revocation.until is None:
        return None
    ends = max(revocation.time + MAX_TTL_MICROSECONDS, (revocation.until or 0) if stops else 0)
    return ends // 1_000_000 + 1


def _one(died: DeadDescendant) -> DeadTokens:
    return DeadTokens(token_ids=(died.token_id,), token_ends=(died.expires_at,), audience=died.audience)


def _one_by_one(
    tokens: Sequence[RevokedToken] | Sequence[LivingToken], audience: str, revocation_id: str = ""
) -> Iterator[DeadTokens]:
    """Yield tokens by their ids, as many at once as a message takes."""
    for start in range(0, len(tokens), IDS_AT_ONCE):
        some = tokens[start : start + IDS_AT_ONCE]
        yield DeadTokens(
            revocation_id=revocation_id,
            token_ids=tuple(token.token_id for token in some),
            token_ends=tuple(token.expires_at for token in some),
            audience=audience,
        )
