"""Requests for approval, as their makers see them, and how long one is waited for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from agent_client.errors import AnswerRejected

if TYPE_CHECKING:
    from issuer_api.v1 import approval_service_pb2 as pb

WAIT_SECONDS = 60.0
"""How long one stream is listened to before the issuer is asked anew: what a connection costs that died unnoticed."""
PAUSE_SECONDS = 1.0
"""Between two streams: what was decided meanwhile is told at once by the next."""


class ApprovalState(StrEnum):
    """Where a request for approval stands."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    USED_UP = "used_up"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """A request for approval, and what came of it.

    Attributes:
        name: Its name, by which people find it: ``approvalRequests/`` and a UUID.
        state: Where it stood when the issuer answered.
        digest: The digest of exactly what was asked.
        expires_at: When it ends, or ended (UTC).
        scopes: What is, or was, to be approved.
        scopes_left: What no approver left out.
        approvers: The SPIFFE IDs of those who approved so far.
        ended_by: Who denied it, cancelled it or took it back; empty for nobody.
        ended_reason: What they said.
    """

    name: str
    state: ApprovalState
    digest: str
    expires_at: datetime
    scopes: tuple[str, ...]
    scopes_left: tuple[str, ...]
    approvers: tuple[str, ...]
    ended_by: str
    ended_reason: str

    @property
    def approved(self) -> bool:
        """Whether the token can be had now."""
        return self.state is ApprovalState.APPROVED

    @property
    def decided(self) -> bool:
        """Whether nobody has to answer any more."""
        return self.state is not ApprovalState.PENDING


def approval_request(answer: pb.ApprovalRequest, name: str | None = None) -> ApprovalRequest:
    """Return what an answer tells.

    Args:
        answer: The answer.
        name: Of the request that was asked for; ``None`` where the issuer names it.

    Raises:
        AnswerRejected: It is another request, or cannot be read.
    """
    if not answer.name or name not in (None, answer.name):
        raise AnswerRejected("the issuer answered with another request for approval")
    try:
        state = ApprovalState(answer.State.Name(answer.state).removeprefix("STATE_").lower())
        expires_at = answer.expire_time.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise AnswerRejected(f"the issuer's answer cannot be read: {type(error).__name__}") from error
    return ApprovalRequest(
        name=answer.name,
        state=state,
        digest=answer.digest,
        expires_at=expires_at,
        scopes=tuple(need.scope for need in answer.needs),
        scopes_left=tuple(answer.scopes_left),
        approvers=tuple(given.approver for given in answer.given),
        ended_by=answer.ended_by,
        ended_reason=answer.ended_reason,
    )
