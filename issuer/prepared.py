"""What came of a request before anybody learns it, and what is recorded and told of it when many were refused."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from issuer.core.errors import PolicyDenied, RateLimited
from issuer.core.record import Outcome
from issuer.core.refusal_budget import WAIT_SECONDS, Keeping, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from issuer.core.approvals import Approved
    from issuer.core.claims import Claims
    from issuer.core.decision import Grant
    from issuer.core.ledger_entries import Entry
    from issuer.core.record import DecisionRecord
    from issuer.core.refusal_budget import RefusalPlan
    from issuer.issuance import IssuedToken
    from issuer.ports import Signer


class Draft(NamedTuple):
    """A token that was decided, built and checked, and is not signed.

    Those of a batch are signed one after the other: code and data that are in the processor's caches cost a fifth less.

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


def within_budget(prepared: Prepared, plan: RefusalPlan) -> Prepared:
    """Return what is recorded and told of a request when the caller has been refused as often as ``plan`` knows."""
    record = prepared.record
    if record is None or record.outcome == Outcome.GRANTED:
        return prepared
    verdict = plan.judge(Kind.of(record), str(UUID(bytes=record.decision_id)))
    match verdict.keeping:
        case Keeping.RECORDED:
            return prepared
        case Keeping.COUNTED:
            return Prepared(None, _as_decided(prepared.outcome, verdict.decision_id))
        case Keeping.LIMITED:
            wait = timedelta(seconds=WAIT_SECONDS)
            return Prepared(None, RateLimited("this caller was refused too often; ask again later", wait))


def _as_decided(outcome: IssuedToken | Exception, decision_id: str) -> IssuedToken | Exception:
    """Return a refusal that names the recorded decision that is like it."""
    if not isinstance(outcome, PolicyDenied):
        return outcome
    return PolicyDenied(outcome.reason, outcome.message, decision_id=decision_id, scopes=outcome.scopes)
