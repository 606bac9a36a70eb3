"""What a denial says to its caller: which part of the request was refused, never what policy would have expected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from issuer.core.errors import Reason

if TYPE_CHECKING:
    from issuer.core.decision import Denial

_TEXTS = {
    Reason.AUDIENCE_NOT_ALLOWED: "policy does not let this caller have tokens for this audience",
    Reason.SCOPE_NOT_ALLOWED: "policy does not let this caller have these scopes at this audience",
    Reason.APPLICATION_NOT_ALLOWED: "policy does not let this caller act for this application at this audience",
    Reason.APPLICATION_REQUIRED: "this caller serves several applications at this audience: name one",
    Reason.GRANT_EXPIRED: "the grant for this is outside its dates",
    Reason.GRANT_TYPE_NOT_ALLOWED: "policy does not allow this by the way in which it was asked for",
    Reason.FACT_MISSING: "policy needs to know more than it does; ListAccess names what is missing",
    Reason.CONDITION_NOT_MET: "a condition of the policy is not met now",
    Reason.APPROVAL_REQUIRED: "somebody has to approve this first",
    Reason.REVOKED: "this was revoked; the issuer's operator knows why and can lift it",
    Reason.ORIGIN_EXPIRES_SOON: "what the token would rest on ends before the shortest lifetime that this issuer gives",
    Reason.REQUEST_INVALID: "the lifetime asked for is below the shortest that this issuer gives",
    Reason.SVID_EXPIRES_SOON: "the caller's SVID expires too soon: ask again once it was rotated",
}


def explain(denial: Denial) -> str:
    """Return one sentence for the caller, with the refused scopes where there are any."""
    text = _TEXTS.get(denial.reason, "policy refuses this request")
    return f"{text}: {' '.join(denial.scopes)}" if denial.scopes else text
