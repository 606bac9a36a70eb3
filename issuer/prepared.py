"""What came of a request before anybody learns it, and what is recorded and told of it when many were refused."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from issuer.core.denial_text import explain
from issuer.core.errors import (
    FieldViolation,
    InvalidTokenRequest,
    IssuerError,
    PolicyDenied,
    RateLimited,
    Reason,
)
from issuer.core.record import Outcome, record_failure
from issuer.core.refusal_budget import WAIT_SECONDS, Keeping, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from issuer.core.approvals import Approvals, Approved
    from issuer.core.claims import Claims
    from issuer.core.decision import Denial, Grant
    from issuer.core.ledger_entries import Entry
    from issuer.core.record import DecisionRecord
    from issuer.core.refusal_budget import RefusalBudget, RefusalPlan
    from issuer.core.revocations import Revocations
    from issuer.core.spiffe_id import SpiffeId
    from issuer.core.token_request import TokenRequest
    from issuer.issuance import Asked, IssuedToken
    from issuer.ports import Signer


class Context(NamedTuple):
    """What a decision is made from beside the policy and facts; which of it holds when it is written is looked at."""

    revocations: Revocations
    approvals: Approvals


class Draft(NamedTuple):
    """A token that was decided, built and checked, and is not signed.

    Attributes:
        grant: What policy allowed.
        decision_id: The decision's id.
        claims: What the token will say.
        to_sign: The checked bytes; ``None`` when the caller only wants to know.
        signer: The key that they name.
        record: Makes the record, told what was minted, or what failed.
    """

    grant: Grant
    decision_id: str
    claims: Claims
    to_sign: bytes | None
    signer: Signer
    record: Callable[..., DecisionRecord]


class Prepared(NamedTuple):
    """What came of a request, not yet told to anybody: first its record has to be durable."""

    record: DecisionRecord | None
    outcome: IssuedToken | Exception
    used: Approved | None = None
    also: tuple[Entry, ...] = ()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What is written; what goes with a record that is not, is not either."""
        return () if self.record is None else (self.record, *self.also)

    def with_more(self, more: Callable[[str], Sequence[Entry]]) -> Prepared:
        """Return it with what else is written in the same commit; ``more`` is told the decision's id."""
        if self.record is None:
            return self
        return self._replace(also=tuple(more(str(UUID(bytes=self.record.decision_id)))))


def failed(error: Exception, decision_id: str, asked: Asked, request: TokenRequest | None) -> Prepared:
    """Return what came of a request that could not be decided. ``request`` is ``None`` when it could not be read."""
    record = record_failure(
        reason_of(error),
        decision_id=decision_id,
        caller=asked.caller,
        peer=asked.peer,
        request=request,
        now=asked.now,
    )
    return Prepared(record, error)


def reason_of(error: Exception) -> Reason:
    """Return the reason that is recorded; what nobody foresaw is ours."""
    return error.reason if isinstance(error, IssuerError) else Reason.INTERNAL


def refusal(denial: Denial, decision_id: str) -> IssuerError:
    """Return what the caller learns of a denial."""
    if denial.reason is Reason.REQUEST_INVALID:
        # Only a ttl below the policy's shortest makes a well-formed request invalid.
        return InvalidTokenRequest((FieldViolation("ttl", explain(denial)),))
    return PolicyDenied(denial.reason, explain(denial), decision_id=decision_id, scopes=denial.scopes)


class Budgets:
    """What is recorded and told of requests whose callers have been refused as often as ``refusals`` knows.

    Each caller's own; of a caller that was refused nothing here, nothing is looked up.
    """

    def __init__(self, refusals: RefusalBudget) -> None:
        self._refusals = refusals
        self._plans: dict[SpiffeId, RefusalPlan] = {}

    def kept(self, prepared: Prepared, asked: Asked) -> Prepared:
        """Return what is recorded and told of one request."""
        record = prepared.record
        if record is None or record.outcome == Outcome.GRANTED:
            return prepared
        verdict = self._plan(asked).judge(Kind.of(record), str(UUID(bytes=record.decision_id)))
        match verdict.keeping:
            case Keeping.RECORDED:
                return prepared
            case Keeping.COUNTED:
                return Prepared(None, _as_decided(prepared.outcome, verdict.decision_id))
            case Keeping.LIMITED:
                wait = timedelta(seconds=WAIT_SECONDS)
                return Prepared(None, RateLimited("this caller was refused too often; ask again later", wait))

    def settle(self) -> None:
        """Take it from the budgets: what had to be recorded is durable."""
        for plan in self._plans.values():
            plan.settle()

    def _plan(self, asked: Asked) -> RefusalPlan:
        caller = asked.caller.spiffe_id
        if caller not in self._plans:
            self._plans[caller] = self._refusals.plan(str(caller), asked.now.timestamp())
        return self._plans[caller]


def _as_decided(outcome: IssuedToken | Exception, decision_id: str) -> IssuedToken | Exception:
    """Return a refusal that names the recorded decision that is like it."""
    if not isinstance(outcome, PolicyDenied):
        return outcome
    return PolicyDenied(outcome.reason, outcome.message, decision_id=decision_id, scopes=outcome.scopes)
