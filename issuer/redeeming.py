"""Redeeming intents: what the registrar could have now is found anew whenever it is decided anew about the consumer."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from issuer.core.approval_state import Refusal
from issuer.core.decide import decide
from issuer.core.decision import Denial
from issuer.core.errors import AdminRefused, PolicyDenied, Reason
from issuer.core.facts_needed import facts_needed
from issuer.core.instants import microseconds
from issuer.core.intent_redemption import origin_of, request_of_registrar, stand_in
from issuer.core.intent_state import Step, StepKind, apply
from issuer.core.record import record_decision
from issuer.fact_lookup import known_facts
from issuer.issuance import Wanted
from issuer.registering import concerns, unknown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from issuer.core.decision import Grant
    from issuer.core.facts import Fact, FactKey
    from issuer.core.intent_book import IntentBook
    from issuer.core.intent_redemption import RedemptionWanted
    from issuer.core.intent_state import RegisteredIntent
    from issuer.core.ledger_entries import Entry
    from issuer.core.origin import Origin
    from issuer.core.record import DecisionRecord
    from issuer.issuance import Asked, Issuance, IssuedToken, LogFields
    from issuer.ports import FactBook, Ids, PolicyBook, RevocationBook


class _Known(NamedTuple):
    """What a redemption is decided from."""

    policies: PolicyBook
    facts: FactBook
    ids: Ids
    revocations: RevocationBook
    intents: IntentBook

    def find(self, intent_id: str) -> RegisteredIntent:
        intent = self.intents.get(intent_id)
        if intent is None:
            raise unknown()
        return intent


class Redeeming:
    """Redeems intents.

    Args:
        issuance: Decides about the consumer, and issues.
        policies: The policy in force.
        facts: What feeders told.
        ids: Where identifiers come from.
        revocations: Those that hold.
        intents: What was registered, and what became of it.
    """

    def __init__(
        self,
        *,
        issuance: Issuance,
        policies: PolicyBook,
        facts: FactBook,
        ids: Ids,
        revocations: RevocationBook,
        intents: IntentBook,
    ) -> None:
        self._issuance = issuance
        self._known = _Known(policies, facts, ids, revocations, intents)

    async def redeem(
        self, asked: Asked, intent_id: str, wanted: RedemptionWanted, log_fields: LogFields
    ) -> IssuedToken:
        """Issue a token of an intent, and take one of its uses, in one commit.

        1. It must be this caller's to redeem, now, with these parameters, and not revoked since it was registered.
        2. Decide about the registrar as if it asked now. What it could have, and what it could have had at the
           registration, bounds the token.
        3. Decide about the caller, which needs a grant of the type ``intent``, and issue as ever. The use is taken with
           the record; if somebody else took it meanwhile, begin again.

        Args:
            asked: Who redeems it, when.
            intent_id: Of the intent.
            wanted: What is asked for of it.
            log_fields: Receives what the log line should tell.

        Raises:
            AdminRefused: INTENT_UNKNOWN, INTENT_NOT_OPEN, INTENT_NOT_YET, INTENT_NOT_YOURS, INTENT_PAYLOAD_DIFFERS;
                REVOKED, since it was registered.
            PolicyDenied: REGISTRAR_NOT_ALLOWED, or what policy says to the caller.
            RateLimited: It was refused too often.
            TemporarilyUnavailable: The policy, the key or the ledger is away.
        """
        redemption = _Redemption(self._known, asked, intent_id, wanted)
        await redemption.fetch_facts()
        token = Wanted(redemption.request, origin=redemption.origin, also=redemption.record)
        [outcome] = await self._issuance.issue_tokens(asked, [token], log_fields)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class _Redemption:
    """One call of :meth:`Redeeming.redeem`, which may decide more than once."""

    def __init__(self, known: _Known, asked: Asked, intent_id: str, wanted: RedemptionWanted) -> None:
        registration = known.find(intent_id).registration
        self.request = wanted.request(registration)
        self._known = known
        self._asked = asked
        self._intent_id = intent_id
        self._parameters = wanted.parameters
        self._consumer = registration.consumer
        self._registrar = stand_in(registration, asked.caller)
        self._request = request_of_registrar(registration, self.request)
        self._facts: Mapping[FactKey, Fact] = {}
        self._record: DecisionRecord | None = None

    async def fetch_facts(self) -> None:
        """Fetch what rules about the registrar mention; what only another policy wants is then missing.

        For its consumer alone: nobody outside is asked on behalf of who may not redeem it.
        """
        if str(self._asked.caller.spiffe_id) != self._consumer:
            return
        policy = self._known.policies.current()
        keys = facts_needed(policy, self._registrar, self._request)
        self._facts = await known_facts(self._known.facts, keys, policy, self._registrar, self._asked.now)

    def origin(self) -> Origin:
        """Return what the token will rest on (steps 1 and 2).

        Raises:
            IssuerError: There is no such thing.
        """
        self._record = None
        answer = origin_of(self._intent(), self._could(), self._asked.caller.spiffe_id, self._asked.now)
        if isinstance(answer, Refusal):
            raise self._denied(answer.reason, answer.message)
        return answer

    def record(self, _grant: Grant | None, _decision_id: str) -> Sequence[Entry]:
        """Return what was decided about the registrar: its record goes with that of the caller."""
        return () if self._record is None else (self._record,)

    def _intent(self) -> RegisteredIntent:
        intent, caller = self._known.find(self._intent_id), self._asked.caller.spiffe_id
        if not concerns(intent, caller):
            raise unknown()
        step = apply(intent, Step(StepKind.USE, str(caller)), microseconds(self._asked.now))
        if isinstance(step, Refusal):
            raise AdminRefused(step.reason, step.message)
        if self._parameters and self._parameters != intent.registration.parameters:
            raise AdminRefused(Reason.INTENT_PAYLOAD_DIFFERS, "the intent was registered with other parameters")
        right = intent.registration.right
        if self._known.revocations.made_since(right, right.time) is not None:
            raise AdminRefused(Reason.REVOKED, "the intent was revoked; the issuer's operator knows why")
        return intent

    def _could(self) -> Grant:
        """Return what the registrar could have now, and keep the record of it."""
        asked, known = self._asked, self._known
        decision = decide(
            known.policies.current(),
            self._registrar,
            self._request,
            self._facts,
            asked.now,
            revocations=known.revocations.current(),
        )
        decision_id = known.ids.fresh_id(asked.now)
        self._record = record_decision(
            decision,
            decision_id=decision_id,
            caller=self._registrar,
            peer="",  # nobody called: the registrar is not there
            request=self._request,
            facts=self._facts,
            now=asked.now,
            validate_only=True,
        )
        if isinstance(decision, Denial):
            if decision.reason is Reason.SVID_EXPIRES_SOON:  # it is the caller's own
                raise PolicyDenied(decision.reason, "the caller's SVID expires too soon", decision_id=decision_id)
            raise self._denied(Reason.REGISTRAR_NOT_ALLOWED, "who registered this intent may not have this now")
        return decision

    def _denied(self, reason: Reason, message: str) -> PolicyDenied:
        decision_id = "" if self._record is None else str(UUID(bytes=self._record.decision_id))
        return PolicyDenied(reason, message, decision_id=decision_id)
