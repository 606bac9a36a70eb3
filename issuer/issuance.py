"""The request path, from a verified caller and a valid request to a recorded decision and a signed token.

What comes before (TLS, verification of the SVID, parsing) is in ``rpc/pipeline.py`` and ``rpc/messages.py``.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from issuer.core.access import facts_needed_to_list, list_access
from issuer.core.admission import ANSWER_SECONDS
from issuer.core.claims import Claims, build_claims
from issuer.core.claims_check import check_claims
from issuer.core.decision import Denial, Grant
from issuer.core.denial_text import explain
from issuer.core.errors import (
    FieldViolation,
    InvalidTokenRequest,
    IssuerError,
    PolicyDenied,
    RateLimited,
    Reason,
    TemporarilyUnavailable,
)
from issuer.core.facts_needed import facts_needed
from issuer.core.record import Minted, Outcome, record_decision, record_failure
from issuer.core.refusal_budget import WAIT_SECONDS, Keeping, Kind
from issuer.core.remembered_decisions import RememberedDecisions
from issuer.core.renewal import renew_at
from issuer.core.token import compact_token, signing_input
from issuer.fact_lookup import known_facts
from issuer.issuance_log import considered, outcome
from issuer.observing import UNTRACED, Step
from issuer.ports import ClaimTaken, EpochMoved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from issuer.core.access import Access
    from issuer.core.approval_book import ApprovalBook
    from issuer.core.approvals import Approvals, Approved
    from issuer.core.caller import Caller
    from issuer.core.claims import TokenProfile
    from issuer.core.ledger_entries import Entry
    from issuer.core.origin import Origin
    from issuer.core.record import DecisionRecord
    from issuer.core.refusal_budget import RefusalBudget, RefusalPlan
    from issuer.core.revocations import Revocations
    from issuer.core.token import Token
    from issuer.core.token_request import TokenRequest
    from issuer.observing import Trace
    from issuer.ports import FactBook, Ledger, PolicyBook, RevocationBook, Signer, StatusBook, TokenIds

LogFields = dict[str, "str | int | float | bool | list[str] | None"]
"""What a step adds to the log line of its call; never a secret."""

MAX_TRIES = 5
"""So often a decision is made again because somebody revoked something meanwhile, or used the same approval; that does
not happen faster than a few commits."""
_REQUESTS_BETWEEN_TURNS = 16
"""A batch gives other calls a turn of the event loop after so many requests: at about 0.1 ms each, under 2 ms."""


# Named tuples, since several are made for every token: a frozen dataclass costs three times as much.


class IssuedToken(NamedTuple):
    """A decision that granted, and the token it led to.

    Attributes:
        token: The signed token; ``None`` when the caller only wanted to know.
        token_id: Its ``jti``; empty without a token.
        decision_id: The decision's identifier.
        grant: What policy allowed.
        expires_at: ``exp``, Unix seconds.
        renew_at: When to ask again, Unix seconds.
    """

    token: Token | None
    token_id: str
    decision_id: str
    grant: Grant
    expires_at: int
    renew_at: int


class Asked(NamedTuple):
    """The circumstances of a request.

    Attributes:
        caller: Who was verified to call.
        peer: The network address that they call from, for the record only.
        now: The time of the request, read once.
        within: Seconds until the caller no longer waits; ``None`` when it did not say.
        trace: Is told of each step.
    """

    caller: Caller
    peer: str
    now: datetime
    within: float | None = None
    trace: Trace = UNTRACED


class Wanted(NamedTuple):
    """One token that is asked for.

    Attributes:
        request: What is asked for, or why that cannot be read.
        validate_only: Decide, but mint nothing.
        origin: Finds what the token will rest on beside the caller's own right; asked anew whenever it is decided
            anew. Raises an IssuerError when there is no such thing any more.
        approvals: Finds what was approved of it, where that is not asked for it alone; likewise.
        also: Says what else is written in the commit of the decision's record, when that is known: what was granted,
            ``None`` for nothing, and the decision's id.
    """

    request: TokenRequest | InvalidTokenRequest
    validate_only: bool = False
    origin: Callable[[], Origin] | None = None
    approvals: Callable[[], Approvals] | None = None
    also: Callable[[Grant | None, str], Sequence[Entry]] | None = None


class _Prepared(NamedTuple):
    """What came of a request, not yet told to anybody: first its record has to be durable."""

    record: DecisionRecord | None
    outcome: IssuedToken | Exception
    used: Approved | None = None
    also: tuple[Entry, ...] = ()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What is written; what goes with a record that is not, is not either."""
        return () if self.record is None else (self.record, *self.also)


class Context(NamedTuple):
    """What a decision is made from beside the policy and facts; which of it holds when it is written is looked at."""

    revocations: Revocations
    approvals: Approvals


class Issuance:
    """Issues tokens. Holds the parts; keeps nothing between requests but decisions that would be made again just so.

    Args:
        profile: What every token of this issuer says.
        policies: The policy in force.
        facts: What feeders told.
        signer: The key.
        ids: Where identifiers come from.
        ledger: Where decisions are kept.
        revocations: Those that hold.
        approvals: What people approved.
        refusals: How many refusals are recorded.
        statuses: Where tokens get their entries of status lists.
    """

    def __init__(
        self,
        *,
        profile: TokenProfile,
        policies: PolicyBook,
        facts: FactBook,
        signer: Signer,
        ids: TokenIds,
        ledger: Ledger,
        revocations: RevocationBook,
        approvals: ApprovalBook,
        refusals: RefusalBudget,
        statuses: StatusBook,
    ) -> None:
        self._profile = profile
        self._policies = policies
        self._facts = facts
        self._signer = signer
        self._ids = ids
        self._ledger = ledger
        self._revocations = revocations
        self._approvals = approvals
        self._refusals = refusals
        self._statuses = statuses
        self._decisions = RememberedDecisions()

    async def issue_tokens(
        self, asked: Asked, wanted: Iterable[Wanted], log_fields: LogFields
    ) -> list[IssuedToken | Exception]:
        """Decide each request, and issue what was decided.

        1. Take the policy in force, the revocations that hold, and what was approved for this caller, once.
        2. Fetch the facts that its rules about this request mention; what cannot be had in time is missing.
        3. Decide. A denial skips to 7.
        4. Take an entry of a status list, where policy wants one for the token, and build the claims.
        5. Check the bytes about to be signed with other code than built them: no wider, no longer.
        6. Sign, in memory.
        7. Record the decisions, whatever they were, in one commit: durable, or nobody learns them. If revocations
           changed since 1, or an approval was used or taken back, begin again: what was signed is thrown away. Refusals
           beyond the caller's budget are only counted, or the caller is told to wait.
        8. Release the tokens and the refusals.

        Args:
            asked: Who asks, when, from where.
            wanted: For what. A refused request does not touch the others.
            log_fields: Receives what the log line should tell, of the last request.

        Returns:
            For each request its token, or why there is none: PolicyDenied; InvalidTokenRequest; RateLimited;
            TemporarilyUnavailable, when the policy or the key is away; ClaimsMismatchError, when step 5 found a
            difference, a defect of this program; or whatever else went wrong.

        Raises:
            TemporarilyUnavailable: LEDGER_UNAVAILABLE; nothing was issued.
        """
        listed = list(wanted)
        clock = asyncio.get_running_loop().time
        give_up = None if asked.within is None else clock() + asked.within - ANSWER_SECONDS
        for _ in range(MAX_TRIES):
            revocations = self._revocations.current()  # 1
            prepared = await self._prepare_all(asked, listed, revocations, log_fields)
            plan = self._refusals.plan(str(asked.caller.spiffe_id), asked.now.timestamp())
            kept = [_within_budget(each, plan) for each in prepared]
            within = None if give_up is None else max(give_up - clock(), 0.0)
            asked.trace.at(Step.RECORD)
            try:
                await self._record([entry for each in kept for entry in each.entries], within, revocations.epoch)  # 7
            except (EpochMoved, ClaimTaken):
                continue
            asked.trace.at(Step.RELEASE)
            plan.settle()
            outcomes = [each.outcome for each in kept]
            if outcomes and isinstance(outcomes[-1], PolicyDenied):
                log_fields["decision_id"] = outcomes[-1].decision_id  # another's, where this refusal is only counted
            return outcomes
        raise TemporarilyUnavailable(Reason.LEDGER_UNAVAILABLE, "revocations or approvals change too fast; try again")

    async def _record(self, entries: list[Entry], within: float | None, epoch: int) -> None:
        if entries:
            await self._ledger.write(*entries, within=within, epoch=epoch)

    async def _prepare_all(
        self, asked: Asked, listed: list[Wanted], revocations: Revocations, log_fields: LogFields
    ) -> list[_Prepared]:
        prepared: list[_Prepared] = []
        approvals = self._approvals.approved_for(asked.caller.spiffe_id, asked.now)  # 1
        for position, each in enumerate(listed):
            if position % _REQUESTS_BETWEEN_TURNS == _REQUESTS_BETWEEN_TURNS - 1:
                await asyncio.sleep(0)
            one = await self._prepare(asked, each, Context(revocations, approvals), log_fields)
            if each.also is not None:
                one = one._replace(also=tuple(each.also(_granted(one.outcome), str(log_fields["decision_id"]))))
            if one.used is not None:
                approvals = approvals.after_use(one.used)
            prepared.append(one)
        return prepared

    async def _prepare(self, asked: Asked, wanted: Wanted, context: Context, log_fields: LogFields) -> _Prepared:
        decision_id = self._ids.decision_id(asked.now)
        request = wanted.request
        log_fields["decision_id"] = decision_id
        if isinstance(request, InvalidTokenRequest):
            return _failed(request, decision_id, asked, None)
        try:
            log_fields |= {"audience": request.audience, "scopes": list(request.scopes)}
            policy = self._policies.current()  # 1
            asked.trace.at(Step.FETCH_FACTS)
            keys = facts_needed(policy, asked.caller, request)
            facts = await known_facts(self._facts, keys, policy, asked.caller, asked.now)  # 2
            asked.trace.at(Step.DECIDE)
            origin = None if wanted.origin is None else wanted.origin()  # 1
            if wanted.approvals is not None:
                context = context._replace(approvals=wanted.approvals())
            decision = self._decisions.decide(  # 3
                policy, asked.caller, request, facts, asked.now, origin=origin, **context._asdict()
            )
        except Exception as error:  # noqa: BLE001 - whatever it was, it is recorded before anybody learns it
            return _failed(error, decision_id, asked, request)
        log_fields |= considered(decision)
        record = partial(
            record_decision,
            decision,
            decision_id=decision_id,
            caller=asked.caller,
            peer=asked.peer,
            request=request,
            facts=facts,
            now=asked.now,
            validate_only=wanted.validate_only,
        )
        if isinstance(decision, Denial):
            return _Prepared(record(), _refusal(decision, decision_id))
        asked.trace.at(Step.BUILD_CLAIMS)
        token_id = self._ids.token_id()
        try:
            status = await self._entry(decision, asked) if decision.status and not wanted.validate_only else None
            claims = build_claims(decision, asked.caller, self._profile, token_id, asked.now, status=status)  # 4
            token = None if wanted.validate_only else self._mint(claims, decision, request, asked)  # 5, 6
        except Exception as error:  # noqa: BLE001 - as above
            return _Prepared(record(failed=_reason_of(error)), error)
        log_fields |= outcome(claims, decision, token)
        minted = Minted(claims.token_id, claims.expires_at, token.sha256, claims.status) if token else None
        used = decision.approval if token else None
        return _Prepared(record(minted=minted), _issued(claims, decision, decision_id, token), used)

    async def list_access(self, asked: Asked) -> tuple[Access, ...]:
        """Return what policy lets the caller ask for now, and what is missing for the rest.

        Raises:
            TemporarilyUnavailable: The policy is away.
        """
        policy = self._policies.current()
        keys = facts_needed_to_list(policy, asked.caller)
        facts = await known_facts(self._facts, keys, policy, asked.caller, asked.now)
        return list_access(policy, asked.caller, facts, asked.now, revocations=self._revocations.current())

    async def _entry(self, grant: Grant, asked: Asked) -> int:
        return await self._statuses.take(int((asked.now + grant.lifetime).timestamp()), asked.now, asked.within)

    def _mint(self, claims: Claims, grant: Grant, request: TokenRequest, asked: Asked) -> Token:
        signer = self._signer.active()
        to_sign = signing_input(signer.algorithm, signer.key_id, claims.payload())
        asked.trace.at(Step.CHECK_CLAIMS)
        check_claims(
            to_sign,
            grant=grant,
            caller=asked.caller,
            request=request,
            profile=self._profile,
            token_id=claims.token_id,
            now=asked.now,
            status=claims.status,
        )
        asked.trace.at(Step.SIGN)
        return compact_token(to_sign, signer.sign(to_sign))


def _granted(outcome: IssuedToken | Exception) -> Grant | None:
    return outcome.grant if isinstance(outcome, IssuedToken) else None


def _failed(error: Exception, decision_id: str, asked: Asked, request: TokenRequest | None) -> _Prepared:
    record = record_failure(
        _reason_of(error),
        decision_id=decision_id,
        caller=asked.caller,
        peer=asked.peer,
        request=request,
        now=asked.now,
    )
    return _Prepared(record, error)


def _within_budget(prepared: _Prepared, plan: RefusalPlan) -> _Prepared:
    """Return what is recorded and told of a request when the caller has been refused as often as ``plan`` knows."""
    record = prepared.record
    if record is None or record.outcome == Outcome.GRANTED:
        return prepared
    verdict = plan.judge(Kind.of(record), str(UUID(bytes=record.decision_id)))
    match verdict.keeping:
        case Keeping.RECORDED:
            return prepared
        case Keeping.COUNTED:
            return _Prepared(None, _as_decided(prepared.outcome, verdict.decision_id))
        case Keeping.LIMITED:
            wait = timedelta(seconds=WAIT_SECONDS)
            return _Prepared(None, RateLimited("this caller was refused too often; ask again later", wait))


def _as_decided(outcome: IssuedToken | Exception, decision_id: str) -> IssuedToken | Exception:
    """Return a refusal that names the recorded decision that is like it."""
    if not isinstance(outcome, PolicyDenied):
        return outcome
    return PolicyDenied(outcome.reason, outcome.message, decision_id=decision_id, scopes=outcome.scopes)


def _issued(claims: Claims, grant: Grant, decision_id: str, token: Token | None) -> IssuedToken:
    return IssuedToken(
        token=token,
        token_id=claims.token_id if token else "",
        decision_id=decision_id,
        grant=grant,
        expires_at=claims.expires_at,
        renew_at=renew_at(claims.issued_at, claims.expires_at),
    )


def _reason_of(error: Exception) -> Reason:
    return error.reason if isinstance(error, IssuerError) else Reason.INTERNAL


def _refusal(denial: Denial, decision_id: str) -> IssuerError:
    if denial.reason is Reason.REQUEST_INVALID:
        # Only a ttl below the policy's shortest makes a well-formed request invalid.
        return InvalidTokenRequest((FieldViolation("ttl", explain(denial)),))
    return PolicyDenied(denial.reason, explain(denial), decision_id=decision_id, scopes=denial.scopes)
