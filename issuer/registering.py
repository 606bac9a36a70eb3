"""Registering intents, looking at them and taking them back: what comes between a verified caller and the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from issuer.approving import MAX_TRIES
from issuer.core.approval_state import Refusal
from issuer.core.errors import AdminRefused, FieldViolation, InvalidTokenRequest, Reason, TemporarilyUnavailable
from issuer.core.instants import MICROSECOND, microseconds
from issuer.core.intent_registration import Registration
from issuer.core.intent_state import RegisteredIntent, Step, StepKind, apply
from issuer.core.intent_steps import registration_text, step_text
from issuer.core.ledger_entries import INTENT, INTENT_CANCELLED, INTENT_REGISTERED, StepTaken
from issuer.core.stated_reason import check_why
from issuer.issuance import Wanted
from issuer.ports import ClaimTaken

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

    from issuer.core.decision import Grant
    from issuer.core.intent_book import IntentBook
    from issuer.core.intent_registration import IntentWanted
    from issuer.core.ledger_entries import Entry
    from issuer.core.spiffe_id import SpiffeId
    from issuer.issuance import Asked, Issuance, LogFields
    from issuer.ports import Ids, Ledger, RevocationBook

KEPT_FOR_EACH_OPEN: Final = 10
"""So many times as many intents of one registrar may be kept as may be open: those that were redeemed or taken back are
kept until their window is over, and who registers and takes back without end is stopped."""


@dataclass(frozen=True, slots=True)
class IntentLimits:
    """What bounds intents.

    Attributes:
        longest: How long after its registration a window may end.
        most_open: How many may be open of one registrar, and for one consumer.
    """

    longest: timedelta
    most_open: int


class Registering:
    """Takes intents. What it knows is in the book, which the ledger keeps.

    Args:
        issuance: Decides whether the registrar could have the token itself.
        ids: Where identifiers come from.
        ledger: Where each step is, before it takes effect.
        revocations: Those that hold.
        intents: What was registered, and what became of it.
        limits: What bounds it.
    """

    def __init__(
        self,
        *,
        issuance: Issuance,
        ids: Ids,
        ledger: Ledger,
        revocations: RevocationBook,
        intents: IntentBook,
        limits: IntentLimits,
    ) -> None:
        self._issuance = issuance
        self._ids = ids
        self._ledger = ledger
        self._revocations = revocations
        self._intents = intents
        self._limits = limits

    async def register(self, asked: Asked, wanted: IntentWanted, log_fields: LogFields) -> RegisteredIntent:
        """Register an intent; the one of the same request, if there is one.

        Raises:
            InvalidTokenRequest: The window is none, the consumer is the caller itself, or another request had this id.
            PolicyDenied: The caller could not have the token itself.
            RateLimited: It was refused too often.
            AdminRefused: TOO_MANY_INTENTS.
            TemporarilyUnavailable: The policy or the ledger is away. It may be registered all the same: repeat it, with
                the same ``request_id``.
        """
        if wanted.consumer == asked.caller.spiffe_id:
            raise InvalidTokenRequest((FieldViolation("consumer", "must be another workload than the caller"),))
        window = wanted.window(microseconds(asked.now), self._limits.longest)
        if known := self._same(asked, wanted):
            return known
        self._check_bounds(str(asked.caller.spiffe_id), str(wanted.consumer))
        intent_id = self._ids.fresh_id(asked.now)

        def step_of(grant: Grant | None, decision_id: str) -> Sequence[Entry]:
            if grant is None or self._same(asked, wanted):
                return ()
            return (_registered(asked, wanted, grant, window, (intent_id, decision_id)),)

        [outcome] = await self._issuance.issue_tokens(
            asked, [Wanted(wanted.request, validate_only=True, also=step_of)], log_fields
        )
        if isinstance(outcome, Exception):
            raise outcome
        if known := self._same(asked, wanted) or self._intents.get(intent_id):
            return known
        raise _overtaken()

    async def cancel(
        self, asked: Asked, intent_id: str, why: str, *, operator: bool, sees_all: bool
    ) -> RegisteredIntent:
        """Take an intent back; the same again changes nothing.

        Args:
            asked: By whom, when.
            intent_id: Of the intent.
            why: For people.
            operator: The caller is an operator.
            sees_all: The caller may see every intent.

        Raises:
            AdminRefused: INTENT_UNKNOWN, INTENT_NOT_OPEN, INTENT_NOT_YOURS.
            InvalidTokenRequest: ``why`` is too long.
            TemporarilyUnavailable: LEDGER_UNAVAILABLE. It may be taken back all the same: look before repeating it.
        """
        check_why(why)
        now, by = microseconds(asked.now), str(asked.caller.spiffe_id)
        step = Step(StepKind.CANCEL, by, why, operator=operator)
        for _ in range(MAX_TRIES):
            known = self.get(asked.caller.spiffe_id, intent_id, sees_all=sees_all)
            if known.ended_by == by and known.ended_why == why:  # a call is repeated when its answer was lost
                return known
            after = apply(known, step, now)
            if isinstance(after, Refusal):
                raise AdminRefused(after.reason, after.message)
            over_at = known.registration.over_at
            entry = StepTaken(INTENT_CANCELLED, INTENT, known.id, after.number, now, by, step_text(step), over_at)
            try:
                await self._ledger.write(entry, within=asked.within)
            except ClaimTaken:
                continue
            return self.get(asked.caller.spiffe_id, intent_id, sees_all=sees_all)
        raise _overtaken()

    def get(self, caller: SpiffeId, intent_id: str, *, sees_all: bool) -> RegisteredIntent:
        """Return an intent that this caller registered or may redeem.

        Raises:
            AdminRefused: INTENT_UNKNOWN; another's is not told apart from none.
        """
        known = self._intents.get(intent_id)
        if known is None or not (sees_all or concerns(known, caller)):
            raise unknown()
        return known

    def of(self, caller: SpiffeId) -> Iterator[RegisteredIntent]:
        """Give the intents that this caller registered or may redeem, the newest first."""
        return self._intents.of(str(caller))

    def all(self) -> Iterator[RegisteredIntent]:
        """Give every intent that can still matter, the newest first."""
        return iter(self._intents)

    def is_revoked(self, intent: RegisteredIntent) -> bool:
        """Return whether a revocation was made since that hits the registrar's right to what it registered."""
        right = intent.registration.right
        return self._revocations.made_since(right, right.time) is not None

    def _same(self, asked: Asked, wanted: IntentWanted) -> RegisteredIntent | None:
        if not wanted.request_id:
            return None
        known = self._intents.of_request(str(asked.caller.spiffe_id), wanted.request_id)
        if known is not None and known.registration.request != wanted.digest:
            raise InvalidTokenRequest((FieldViolation("request_id", "was that of another request of this caller"),))
        return known

    def _check_bounds(self, registrar: str, consumer: str) -> None:
        most, intents = self._limits.most_open, self._intents
        for count, limit, what in (
            (intents.open_from(registrar), most, "intents of this registrar are open"),
            (intents.open_for(consumer), most, "intents for this consumer are open"),
            (intents.kept_of(registrar), most * KEPT_FOR_EACH_OPEN, "intents of this registrar are kept"),
        ):
            if count >= limit:
                raise AdminRefused(Reason.TOO_MANY_INTENTS, f"{limit} {what} already")


def _registered(
    asked: Asked, wanted: IntentWanted, grant: Grant, window: tuple[int, int], ids: tuple[str, str]
) -> StepTaken:
    now, caller = microseconds(asked.now), str(asked.caller.spiffe_id)
    request, said = wanted.request, wanted.request.intent
    registration = Registration(
        id=ids[0],
        registrar=caller,
        consumer=str(wanted.consumer),
        audience=grant.audience,
        application=grant.application or "",
        scopes=grant.scopes,
        operation=(said.operation if said else None) or "",
        resource=(said.resource if said else None) or "",
        parameters=wanted.parameters,
        transaction=(said.transaction if said else None) or "",
        not_before=window[0],
        expires_at=window[1],
        uses=wanted.uses,
        ttl=None if request.ttl is None else request.ttl // MICROSECOND,
        lifetime=int(grant.lifetime.total_seconds()),
        bind=grant.bind_certificate,
        rules=grant.rule_ids,
        policy=grant.policy_digest,
        decision=ids[1],
        created=now,
        request_id=wanted.request_id,
        request=wanted.digest,
    )
    return StepTaken(
        INTENT_REGISTERED, INTENT, ids[0], 1, now, caller, registration_text(registration), registration.over_at
    )


def concerns(intent: RegisteredIntent, spiffe_id: SpiffeId) -> bool:
    """Return whether an identity registered an intent or may redeem it."""
    return str(spiffe_id) in (intent.registration.registrar, intent.registration.consumer)


def unknown() -> AdminRefused:
    """Return what is told of an intent that there is not, or that does not concern the caller."""
    return AdminRefused(Reason.INTENT_UNKNOWN, "no intent of this name concerns this caller")


def _overtaken() -> TemporarilyUnavailable:
    return TemporarilyUnavailable(Reason.LEDGER_UNAVAILABLE, "others act at the same moment; look what became of it")
