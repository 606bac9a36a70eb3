"""Revoking tokens and lifting that again: what comes between a verified caller and the ledger."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from issuer.core.errors import AdminRefused, FieldViolation, InvalidTokenRequest, Reason, TemporarilyUnavailable
from issuer.core.instants import microseconds
from issuer.core.ledger_entries import RevocationLifted
from issuer.core.revocation import Revocation, Selector, check_revocation, usually_stops
from issuer.core.revocation_text import entry_of
from issuer.ports import EpochMoved

if TYPE_CHECKING:
    from collections.abc import Sequence

    from issuer.core.recorded_tokens import Hits
    from issuer.issuance import Asked
    from issuer.ports import Ids, Ledger, RevocationBook, TokenBook

MAX_REVOCATIONS: Final = 5_000
"""So many by attributes may hold at once; all of them are indexed anew, in about 15 ms, when one changes."""
MAX_REQUEST_ID: Final = 128
BY_HOLDER: Final = "by its holder"
LISTED: Final = 100
"""So many tokens and identities are named; the rest is counted."""
MAX_TRIES: Final = 5
"""So often it is looked again because somebody else revoked something at the same moment."""


@dataclass(frozen=True, slots=True)
class Revoke:
    """What an operator asks for.

    Attributes:
        selector: Which tokens.
        why: For people.
        stops_issuance: Whether to stop it; ``None`` for what is usual.
        until: When a stop ends by itself, microseconds since 1970 UTC.
        dry_run: Only tell what would be hit.
        request: What makes the same request again the same; empty for nothing.
    """

    selector: Selector
    why: str
    stops_issuance: bool | None = None
    until: int | None = None
    dry_run: bool = False
    request: str = ""


class Revoking:
    """Revokes tokens. Keeps no state of its own.

    Args:
        ledger: Where it takes effect.
        revocations: Those that hold.
        tokens: What they hit.
        ids: Where identifiers come from.
    """

    def __init__(self, *, ledger: Ledger, revocations: RevocationBook, tokens: TokenBook, ids: Ids) -> None:
        self._ledger = ledger
        self._revocations = revocations
        self._tokens = tokens
        self._ids = ids

    async def revoke(self, wanted: Revoke, asked: Asked) -> tuple[Revocation, Hits]:
        """Revoke what an operator names; it holds when this returns.

        Raises:
            InvalidTokenRequest: It means nothing, or its request id was used for something else.
            AdminRefused: TOO_MANY_REVOCATIONS.
            TemporarilyUnavailable: LEDGER_UNAVAILABLE. It may hold all the same: repeat it.
        """
        revocation = _revocation(wanted, asked)
        check_revocation(revocation)
        for _ in range(MAX_TRIES):
            epoch = self._revocations.epoch
            hits = await self._tokens.hits(wanted.selector, int(asked.now.timestamp()), LISTED)
            if (known := self._made_before(revocation)) is not None:
                return known, hits
            revocation = replace(revocation, tokens_hit=hits.tokens, identities_hit=hits.identities)
            if wanted.selector.token is not None:
                revocation = _of_one_token(revocation, hits)
            elif len(self._revocations.by_attributes) >= MAX_REVOCATIONS:
                raise AdminRefused(Reason.TOO_MANY_REVOCATIONS, f"{MAX_REVOCATIONS} revocations hold already")
            if wanted.dry_run:
                return revocation, hits
            made = replace(revocation, id=self._ids.fresh_id(asked.now))
            try:
                await self._ledger.write(entry_of(made), within=asked.within, epoch=epoch)
            except EpochMoved:
                continue
            return made, hits
        raise _overtaken()

    async def lift(self, revocation_id: str, asked: Asked) -> Revocation:
        """End a stop of issuance; what was lifted before stays as it is.

        Raises:
            AdminRefused: REVOCATION_UNKNOWN, REVOCATION_FINAL.
            TemporarilyUnavailable: LEDGER_UNAVAILABLE. It may be lifted all the same: repeat it.
        """
        for _ in range(MAX_TRIES):
            epoch = self._revocations.epoch
            if (known := self._revocations.get(revocation_id)) is None:
                raise AdminRefused(Reason.REVOCATION_UNKNOWN, "no revocation with this id holds")
            if known.lifted is not None:
                return known
            if not known.can_be_lifted:
                raise AdminRefused(Reason.REVOCATION_FINAL, "this revocation stops nothing that may go on")
            lift = RevocationLifted(revocation_id, microseconds(asked.now), str(asked.caller.spiffe_id))
            try:
                await self._ledger.write(lift, within=asked.within, epoch=epoch)
            except EpochMoved:
                continue
            return self._revocations.get(revocation_id) or known
        raise _overtaken()

    async def revoke_own(self, token_id: str, asked: Asked) -> bool:
        """Revoke a token of the caller; return whether it was one, and alive. Only the log may tell that.

        Raises:
            TemporarilyUnavailable: LEDGER_UNAVAILABLE. It may be revoked all the same: repeat it.
        """
        if self._revocations.is_token_revoked(token_id):
            return False
        found = await self._tokens.issued(token_id)
        actor, now = str(asked.caller.spiffe_id), microseconds(asked.now)
        if found is None or found.issued.caller != asked.caller.spiffe_id or found.expires_at * 1_000_000 <= now:
            return False
        revocation = Revocation(
            id=self._ids.fresh_id(asked.now),
            selector=Selector(token=token_id, audience=found.issued.audience),
            time=now,
            actor=actor,
            why=BY_HOLDER,
            stops_issuance=False,
            tokens_hit=1,
            identities_hit=1,
            expires_at=found.expires_at,
        )
        await self._ledger.write(entry_of(revocation), within=asked.within)
        return True

    async def list(self, size: int, before: str | None, *, stopping: int | None) -> Sequence[Revocation]:
        """Return revocations, the newest first.

        Args:
            size: How many at most.
            before: Only those before this id.
            stopping: Only those that stop issuance at this moment, microseconds since 1970 UTC; ``None`` for all.

        Raises:
            TemporarilyUnavailable: LEDGER_UNAVAILABLE.
        """
        if stopping is None:
            return await self._tokens.revocations(size, before)
        known = (each for each in reversed(self._revocations.by_attributes) if each.is_stopping(stopping))
        return [each for each in known if before is None or each.id < before][:size]

    def _made_before(self, revocation: Revocation) -> Revocation | None:
        """Return the revocation that the same caller made by the same request id.

        Raises:
            InvalidTokenRequest: That was another.
        """
        if not revocation.request:
            return None
        for known in self._revocations.by_attributes:
            if (known.actor, known.request) == (revocation.actor, revocation.request):
                if _content(known) != _content(revocation):
                    fault = FieldViolation("request_id", "was used by this caller for another revocation")
                    raise InvalidTokenRequest((fault,))
                return known
        return None


def _revocation(wanted: Revoke, asked: Asked) -> Revocation:
    now = microseconds(asked.now)
    if len(wanted.request) > MAX_REQUEST_ID or not wanted.request.isprintable():
        raise InvalidTokenRequest(
            (FieldViolation("request_id", f"must be at most {MAX_REQUEST_ID} printable characters"),)
        )
    stops = usually_stops(wanted.selector, now) if wanted.stops_issuance is None else wanted.stops_issuance
    return Revocation(
        id="",
        selector=wanted.selector,
        time=now,
        actor=str(asked.caller.spiffe_id),
        why=wanted.why,
        stops_issuance=stops,
        until=wanted.until,
        request=wanted.request,
    )


def _of_one_token(revocation: Revocation, hits: Hits) -> Revocation:
    """Note what is known of the token, so that only the servers of its audience need to be told."""
    if not hits.newest:
        raise InvalidTokenRequest((FieldViolation("selector.token_id", "no token with this id is alive"),))
    token = hits.newest[0]
    selector = replace(revocation.selector, audience=token.audience)
    return replace(revocation, selector=selector, expires_at=token.expires_at)


def _content(revocation: Revocation) -> tuple[object, ...]:
    return revocation.selector, revocation.why, revocation.stops_issuance, revocation.until


def _overtaken() -> TemporarilyUnavailable:
    return TemporarilyUnavailable(Reason.LEDGER_UNAVAILABLE, "others revoke at the same moment; nothing was changed")
