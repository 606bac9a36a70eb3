"""What a caller of the issuer must be ready for.

::

    IssuerRequestError
    ├── InvalidTokenRequest          INVALID_ARGUMENT: `violations` names every field
    ├── AccessDenied                 PERMISSION_DENIED
    │   ├── PolicyDenied             `decision_id` is in the issuer's record
    │   │   ├── AudienceNotAllowed
    │   │   ├── ScopeNotAllowed      `scopes` names those refused
    │   │   ├── ApplicationNotAllowed
    │   │   ├── ApplicationRequired
    │   │   ├── GrantExpired
    │   │   ├── FactMissing
    │   │   └── ConditionNotMet
    │   └── RpcNotAllowed
    ├── NotAuthenticated             UNAUTHENTICATED: the issuer does not accept this workload's SVID
    │   ├── SvidRejected
    │   ├── ChainRejected
    │   └── TrustDomainRejected
    ├── PreconditionFailed           FAILED_PRECONDITION
    │   ├── SvidExpiresSoon
    │   ├── SubjectTokenNotTaken
    │   ├── AccessEnded
    │   ├── ApprovalRequired
    │   └── IntentNotOpen
    ├── NotFound                     NOT_FOUND
    ├── LimitExceeded                RESOURCE_EXHAUSTED; asked again where `retry_after` lets the deadline be kept
    ├── IssuerUnavailable            UNAVAILABLE, after retries within the deadline
    │   └── IssuerTimedOut           DEADLINE_EXCEEDED
    ├── IssuerNotTrusted             who answered did not prove to be the issuer
    ├── AnswerRejected               the answer does not fit what was asked; its token is not handed out
    └── IssuerFault                  INTERNAL, and every status that is not above

    ClientNotConfigured              nothing was called: an address or a name is missing or malformed
    ClientClosed                     nothing was called, or the call was ended: the client is closed
    ClientForked                     nothing was called: the process was forked after a client was used

That there is no identity to call with is a :class:`~agent_client.workload_api_errors.WorkloadApiError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from agent_client.remedies import REMEDIES

if TYPE_CHECKING:
    from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Violation:
    """One fault of a request: the field, as the contract spells it (``scopes[1]``), and what is wrong with it."""

    field: str
    description: str


class IssuerRequestError(Exception):
    """A request that brought nothing.

    Attributes:
        message: What happened, in one sentence.
        reason: The issuer's reason, a value of ``ErrorReason`` without its prefix; ``None`` where it gave none.
        decision_id: The decision in the issuer's record; ``None`` when there was none.
        request_id: Finds the call in the issuer's log; ``None`` when it did not get that far.
        scopes: The scopes that were refused; empty when the refusal is not about scopes.
        violations: The malformed fields of the request.
        remedy: What to do, in one sentence.
        retry_after: How long the issuer asks to be left alone with this request, more than nothing and at most an
            hour; ``None`` where it does not say, or says anything else.
        address: Which of the issuer's addresses gave the answer, or none; ``None`` where it is not known.
        retryable: Whether the same request may work a moment later, or once ``retry_after`` has passed.
    """

    _retryable: ClassVar[bool] = False
    _remedy: ClassVar[str] = "Give the issuer's operator the request id."

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        decision_id: str | None = None,
        request_id: str | None = None,
        scopes: tuple[str, ...] = (),
        violations: tuple[Violation, ...] = (),
        retry_after: timedelta | None = None,
        address: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.decision_id = decision_id
        self.request_id = request_id
        self.scopes = scopes
        self.violations = violations
        self.retry_after = retry_after
        self.address = address

    @property
    def retryable(self) -> bool:
        """Whether the same request may work a moment later, or once ``retry_after`` has passed."""
        return self._retryable

    @property
    def remedy(self) -> str:
        """What to do, in one sentence."""
        return REMEDIES.get(self.reason or "", self._remedy)

    def __str__(self) -> str:
        faults = [f"{violation.field} {violation.description}" for violation in self.violations]
        known = [
            self.reason,
            self.decision_id and f"decision {self.decision_id}",
            self.request_id and f"request {self.request_id}",
            self.address and self.address not in self.message and f"issuer at {self.address}",
            self.retry_after and f"again in {self.retry_after.total_seconds():g} s",
        ]
        origin = ", ".join(part for part in known if part)
        return "; ".join([self.message, *faults]) + (f" ({origin})" if origin else "") + f". {self.remedy}"


class InvalidTokenRequest(IssuerRequestError):
    """The request is malformed."""

    _remedy = "Mend the fields that are named."


class AccessDenied(IssuerRequestError):
    """The issuer knows the caller and refuses."""

    _remedy = "Give the issuer's operator the decision id, which explains the refusal."


class PolicyDenied(AccessDenied):
    """Policy refused the request."""


class AudienceNotAllowed(PolicyDenied):
    """No token for this audience, or there is no such audience."""


class ScopeNotAllowed(PolicyDenied):
    """``scopes`` are not for this caller."""


class ApplicationNotAllowed(PolicyDenied):
    """The caller may not act for this application."""


class ApplicationRequired(PolicyDenied):
    """The caller serves several applications and has to name one."""


class GrantExpired(PolicyDenied):
    """The grant is outside its dates."""


class FactMissing(PolicyDenied):
    """A rule needs a fact, or a part of the request, that is missing."""


class ConditionNotMet(PolicyDenied):
    """A condition of the policy is not met now."""


class RpcNotAllowed(AccessDenied):
    """This method is not for this caller."""


class NotAuthenticated(IssuerRequestError):
    """The issuer does not accept this workload's SVID."""

    _remedy = "Compare the workload's SVID, and the trust domains that the issuer lets call, with the reason."


class SvidRejected(NotAuthenticated):
    """The leaf certificate breaks a rule."""


class ChainRejected(NotAuthenticated):
    """The chain from the leaf to its trust domain's authorities does not hold."""


class TrustDomainRejected(NotAuthenticated):
    """The workload's trust domain may not call, or the issuer has no authorities for it."""


class PreconditionFailed(IssuerRequestError):
    """The request is fine, and something has to happen first."""


class SvidExpiresSoon(PreconditionFailed):
    """The SVID ends before the shortest token would."""


class SubjectTokenNotTaken(PreconditionFailed):
    """The subject token has ended, was revoked, or is none that the issuer takes."""


class AccessEnded(PreconditionFailed):
    """The window of access is over: by time, or because something that it rested on is no longer so."""


class ApprovalRequired(PreconditionFailed):
    """Somebody has to approve first. ``scopes`` are those that need it.

    Attributes:
        approval_request: The name of the request for approval that is open for exactly this, or was denied; ``None``
            where nobody asked yet.
        approval_expires_at: When that ends, UTC; ``None`` likewise.
        approval_digest: The digest of what it is for; ``None`` likewise.
    """

    approval_request: str | None = None
    approval_expires_at: datetime | None = None
    approval_digest: str | None = None


class IntentNotOpen(PreconditionFailed):
    """The intent was redeemed, taken back or has expired; or, with INTENT_NOT_YET, its window has not begun."""


class NotFound(IssuerRequestError):
    """What the request names does not exist."""

    _remedy = "Compare the name with what the issuer lists."


class LimitExceeded(IssuerRequestError):
    """A limit of the issuer was reached.

    With ``retry_after``, the call waited and asked again for as long as its deadline allowed. Without, a request that
    is too large would stay so: it is not asked again.
    """

    _remedy = "Ask for less at once, or less often."

    @property
    def retryable(self) -> bool:
        """Whether the issuer said when to come back."""
        return self.retry_after is not None


class IssuerUnavailable(IssuerRequestError):
    """The issuer cannot be reached, or cannot decide right now. The call was retried until its deadline."""

    _retryable = True
    _remedy = "See that the issuer runs, that its address is right, and that it accepts this workload's SVID."


class IssuerTimedOut(IssuerUnavailable):
    """No answer before the deadline. A token may have been issued, and nobody holds it."""

    _retryable = False
    _remedy = "Ask again, with a longer timeout where the network is slow."


class IssuerNotTrusted(IssuerRequestError):
    """Who answered has no certificate of the issuer's trust domain with the issuer's DNS name. Nothing was sent."""

    _remedy = "Compare the address, and the DNS name of the issuer's registration entry, with what the client expects."


class AnswerRejected(IssuerRequestError):
    """The answer contradicts the request or itself. A defect of the issuer, or clocks that disagree."""

    _remedy = "Compare the clocks of this host and of the issuer, then tell the issuer's operator."


class IssuerFault(IssuerRequestError):
    """The issuer failed."""


class ClientNotConfigured(ValueError):
    """An address or a name is missing or malformed. The message says how it is written."""


class ClientClosed(RuntimeError):
    """The client was closed, before the call or during it."""


class ClientForked(RuntimeError):
    """This process was forked after a client was used. The message says what to do (:mod:`agent_client.forks`)."""
