"""The request path, from a verified caller and a valid request to a recorded decision and a signed token.

What comes before (TLS, verification of the SVID, parsing) is in ``rpc/pipeline.py`` and ``rpc/messages.py``.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from issuer.core.access import facts_needed_to_list, list_access
from issuer.core.admission import ANSWER_SECONDS
from issuer.core.alike_records import AlikeRecords
from issuer.core.claims import Claims, build_claims
from issuer.core.claims_check import check_claims
from issuer.core.decision import Denial, Grant
from issuer.core.errors import InvalidTokenRequest, PolicyDenied, Reason, TemporarilyUnavailable
from issuer.core.facts_needed import facts_needed
from issuer.core.record import Minted
from issuer.core.remembered_decisions import RememberedDecisions
from issuer.core.renewal import renew_at
from issuer.core.token import compact_token, signing_input
from issuer.draft_signing import sign_each
from issuer.fact_lookup import known_facts
from issuer.issuance_log import considered, outcome, put_back
from issuer.observing import UNTRACED, Step
from issuer.ports import ClaimTaken, EpochMoved
from issuer.prepared import Budgets, Context, Draft, Prepared, failed, reason_of, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from issuer.core.access import Access
    from issuer.core.approval_book import ApprovalBook
    from issuer.core.approvals import Approvals
    from issuer.core.caller import Caller
    from issuer.core.claims import TokenProfile
    from issuer.core.ledger_entries import Entry
    from issuer.core.origin import Origin
    from issuer.core.refusal_budget import RefusalBudget
    from issuer.core.revocations import Revocations
    from issuer.core.spiffe_id import SpiffeId
    from issuer.core.token import Token
    from issuer.core.token_request import TokenRequest
    from issuer.observing import Trace
    from issuer.ports import FactBook, Ids, Ledger, PolicyBook, RevocationBook, Signer, StatusBook

LogFields = dict[str, "str | int | float | bool | list[str] | None"]
"""What a step adds to the log line of its call; never a secret."""

MAX_TRIES = 5
"""So often a decision is made again because somebody revoked something meanwhile, or used the same approval; that does
not happen faster than a few commits."""
_REQUESTS_BETWEEN_TURNS = 16
"""After so many requests decided, or recorded, others get a turn of the event loop: at about 50 us each, 1 ms."""


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


class TokenAsk(NamedTuple):
    """One token that somebody asks for.

    Attributes:
        asked: Who asks, when, from where.
        wanted: For what.
        told: Receives what the log line should tell; ``None`` where nothing is told.
    """

    asked: Asked
    wanted: Wanted
    told: LogFields | None


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
        ids: Ids,
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
        self._records = AlikeRecords()

    async def issue_tokens(
        self, asked: Asked, wanted: Iterable[Wanted], log_fields: LogFields | None
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
            log_fields: Receives what the log line should tell; ``None`` where it tells of no single request.

        Returns:
            For each request its token, or why there is none: PolicyDenied; InvalidTokenRequest; RateLimited;
            TemporarilyUnavailable, when the policy or the key is away; ClaimsMismatchError, when step 5 found a
            difference, a defect of this program; or whatever else went wrong.

        Raises:
            TemporarilyUnavailable: LEDGER_UNAVAILABLE; nothing was issued.
        """
        asks = [TokenAsk(asked, each, log_fields) for each in wanted]
        give_up = None if asked.within is None else time.monotonic() + asked.within - ANSWER_SECONDS
        for _ in range(MAX_TRIES):
            try:
                return await self.issue_once(asks, None if give_up is None else max(give_up - time.monotonic(), 0.0))
            except (EpochMoved, ClaimTaken):
                continue
        raise TemporarilyUnavailable(Reason.LEDGER_UNAVAILABLE, "revocations or approvals change too fast; try again")

    async def issue_once(self, asks: Sequence[TokenAsk], within: float | None) -> list[IssuedToken | Exception]:
        """Do the steps of :meth:`issue_tokens` once, for requests that may be of several callers.

        Each is decided by itself, with its own caller's approvals and budget of refusals; they share a commit. Where
        this raises EpochMoved or ClaimTaken, log lines tell nothing of it.

        Args:
            asks: Who asks for what. What one uses up of an approval, a later one of that caller does not have.
            within: Seconds until nobody waits any more; ``None`` for as long as the ledger may take.

        Raises:
            EpochMoved: Revocations changed meanwhile: begin again.
            ClaimTaken: An approval was used or taken back meanwhile: likewise.
            TemporarilyUnavailable: LEDGER_UNAVAILABLE; nothing was issued.
        """
        before = [dict(ask.told or {}) for ask in asks]
        revocations = self._revocations.current()  # 1
        prepared = await self._prepare_all(asks, revocations)
        budgets = Budgets(self._refusals)
        kept = [budgets.kept(each, ask.asked) for each, ask in zip(prepared, asks, strict=True)]
        entries = [entry for each in kept for entry in each.entries]
        traces = dict.fromkeys(ask.asked.trace for ask in asks)  # a batch has one
        for trace in traces:
            trace.at(Step.RECORD)
        try:
            if entries:
                await self._ledger.write(*entries, within=within, epoch=revocations.epoch)  # 7
        except (EpochMoved, ClaimTaken):
            put_back(asks, before)
            raise
        budgets.settle()
        for trace in traces:
            trace.at(Step.RELEASE)
        for ask, each in zip(asks, kept, strict=True):
            if ask.told is not None and isinstance(each.outcome, PolicyDenied):
                ask.told["decision_id"] = each.outcome.decision_id  # another's, where this refusal is only counted
        return [each.outcome for each in kept]

    async def _prepare_all(self, asks: Sequence[TokenAsk], revocations: Revocations) -> list[Prepared]:
        approved: dict[SpiffeId, Approvals] = {}
        drafts: list[Prepared | Draft] = []
        for position, ask in enumerate(asks):
            await _let_others_on(position)
            drafts.append(await self._drafted(ask, revocations, approved))
        return await _signed(drafts, asks)

    async def _drafted(
        self, ask: TokenAsk, revocations: Revocations, approved: dict[SpiffeId, Approvals]
    ) -> Prepared | Draft:
        """Return what came of a request before it is signed; what it uses up is taken out of ``approved``."""
        asked, wanted, _ = ask
        caller = asked.caller.spiffe_id
        if caller not in approved:
            approved[caller] = self._approvals.approved_for(caller, asked.now)  # 1
        draft = await self._prepare(ask, Context(revocations, approved[caller]))
        if isinstance(draft, Draft):
            if wanted.also is None and draft.grant.approval is None:
                return draft
            [draft] = await _signed([draft], [ask])  # what comes after depends on what comes of it
        if wanted.also is not None:
            granted = draft.outcome.grant if isinstance(draft.outcome, IssuedToken) else None
            draft = draft.with_more(partial(wanted.also, granted))
        if draft.used is not None:
            approved[caller] = approved[caller].after_use(draft.used)
        return draft

    async def _prepare(self, ask: TokenAsk, context: Context) -> Prepared | Draft:
        asked, wanted, told = ask
        decision_id = self._ids.fresh_id(asked.now)
        request = wanted.request
        if told is not None:
            told["decision_id"] = decision_id
        if isinstance(request, InvalidTokenRequest):
            return failed(request, decision_id, asked, None)
        try:
            if told is not None:
                told |= {"audience": request.audience, "scopes": list(request.scopes)}
            policy = self._policies.current()  # 1
            asked.trace.at(Step.FETCH_FACTS)
            keys = facts_needed(policy, asked.caller, request)
            facts = await known_facts(self._facts, keys, policy, asked.caller, asked.now)  # 2
            asked.trace.at(Step.DECIDE)
            origin = None if wanted.origin is None else wanted.origin()  # 1
            if wanted.approvals is not None:
                context = context._replace(approvals=wanted.approvals())
            decision = self._decisions.decide(  # 3
                policy,
                asked.caller,
                request,
                facts,
                asked.now,
                revocations=context.revocations,
                approvals=context.approvals,
                origin=origin,
            )
        except Exception as error:  # noqa: BLE001 - whatever it was, it is recorded before anybody learns it
            return failed(error, decision_id, asked, request)
        if told is not None:
            told |= considered(decision)
        record = partial(
            self._records.record,
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
            return Prepared(record(), refusal(decision, decision_id))
        asked.trace.at(Step.BUILD_CLAIMS)
        try:
            status = await self._entry(decision, asked) if decision.status and not wanted.validate_only else None
            claims = build_claims(
                decision, asked.caller, self._profile, self._ids.fresh_id(asked.now), asked.now, status=status
            )  # 4
            signer = self._signer.active()
            to_sign = None if wanted.validate_only else self._checked(signer, claims, decision, request, asked)  # 5
        except Exception as error:  # noqa: BLE001 - as above
            return Prepared(record(failed=reason_of(error)), error)
        return Draft(decision, decision_id, claims, to_sign, signer, record)

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

    def _checked(self, signer: Signer, claims: Claims, grant: Grant, request: TokenRequest, asked: Asked) -> bytes:
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
        return to_sign


async def _signed(drafts: Sequence[Prepared | Draft], asks: Sequence[TokenAsk]) -> list[Prepared]:
    """Sign what is to be signed, all at once; return what came of each."""
    wanted: list[tuple[Signer, bytes]] = []
    traces: dict[Trace, None] = {}  # a batch has one
    for draft, ask in zip(drafts, asks, strict=True):
        if isinstance(draft, Draft) and draft.to_sign is not None:
            wanted.append((draft.signer, draft.to_sign))
            traces[ask.asked.trace] = None
    for trace in traces:
        trace.at(Step.SIGN)
    signatures = iter(await sign_each(wanted))  # 6
    prepared = []
    for position, (draft, ask) in enumerate(zip(drafts, asks, strict=True)):
        await _let_others_on(position)
        if isinstance(draft, Draft):
            prepared.append(_finished(draft, ask, None if draft.to_sign is None else next(signatures)))
        else:
            prepared.append(draft)
    return prepared


def _finished(draft: Draft, ask: TokenAsk, signature: bytes | Exception | None) -> Prepared:
    grant, decision_id, claims, to_sign, _, record = draft
    if isinstance(signature, Exception):
        return Prepared(record(failed=reason_of(signature)), signature)
    token = None if to_sign is None or signature is None else compact_token(to_sign, signature)
    if ask.told is not None:
        ask.told.update(outcome(claims, grant, token))
    minted = Minted(claims.token_id, claims.expires_at, token.sha256, claims.status) if token else None
    used = grant.approval if token else None
    return Prepared(record(minted=minted), _issued(claims, grant, decision_id, token), used)


async def _let_others_on(position: int) -> None:
    if position and position % _REQUESTS_BETWEEN_TURNS == 0:
        await asyncio.sleep(0)


def _issued(claims: Claims, grant: Grant, decision_id: str, token: Token | None) -> IssuedToken:
    return IssuedToken(
        token=token,
        token_id=claims.token_id if token else "",
        decision_id=decision_id,
        grant=grant,
        expires_at=claims.expires_at,
        renew_at=renew_at(claims.issued_at, claims.expires_at),
    )
