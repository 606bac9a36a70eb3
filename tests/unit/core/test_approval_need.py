"""Whether an approval is all that a request lacks, whose, and what of it is asked."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from support.policies import AUDIENCES, NOW, SETTLER, caller, grant, grants, policy, prohibition, prohibitions, request

from issuer.core.approval_need import Lacking, find_needed
from issuer.core.approval_request import Need
from issuer.core.approvals import Approvals, Approved
from issuer.core.decision import Grant
from issuer.core.errors import Reason
from issuer.core.instants import microseconds
from issuer.core.patterns import parse_pattern
from issuer.core.revocation import Revocation, Selector
from issuer.core.revocations import Revocations

if TYPE_CHECKING:
    from issuer.core.policy import Policy
    from issuer.core.token_request import TokenRequest

NEEDED = "approval: {approvers: ['spiffe://people.example/*'], quorum: 2, valid_for: 15m, uses: 3}"
APPROVABLE = AUDIENCES.replace("risk: critical}", f"risk: critical, {NEEDED}}}")
RULES = policy(grants(grant(scopes="[read, refund]", owner="alice")), audiences=APPROVABLE)


def look(rules: Policy = RULES, wanted: TokenRequest | None = None, **more: object) -> Lacking:
    return find_needed(rules, caller(), wanted or request("refund", "read"), {}, NOW, **more)  # type: ignore[arg-type]


def test_tells_exactly_what_is_asked_of_whom() -> None:
    needed = look().needed
    assert needed is not None
    expected = Need("refund", "critical", ("spiffe://people.example/*",), 2, 900_000_000, 3)
    assert (needed.needs, needed.owners, needed.lifetime) == ((expected,), ("alice",), 120)
    assert (needed.asked.caller, needed.asked.scopes) == (SETTLER, ("read", "refund"))


def test_what_needs_no_approval_lacks_none() -> None:
    found = look(wanted=request("read"))
    assert isinstance(found.decision, Grant)
    assert (found.needed, found.reason) == (None, None)


def test_a_partial_answer_still_lacks_the_rest() -> None:
    found = look(wanted=request("refund", "read", allow_partial=True))
    assert isinstance(found.decision, Grant)
    assert found.needed is not None


def test_what_was_approved_lacks_nothing_more() -> None:
    needed = look().needed
    assert needed is not None
    until = microseconds(NOW + timedelta(minutes=5))
    approved = Approvals([Approved("a", 3, needed.asked.digest, "", ("refund",), None, until, 1)])
    assert look(approvals=approved).needed is None


@pytest.mark.parametrize(
    ("rules", "wanted", "reason"),
    [
        (RULES, request("refund", "write"), Reason.SCOPE_NOT_ALLOWED),
        (RULES, request("refund", ttl=timedelta(seconds=5)), Reason.REQUEST_INVALID),
        (
            policy(grants(grant(scopes="[refund]")), prohibitions(prohibition()), audiences=APPROVABLE),
            request("refund"),
            Reason.AUDIENCE_NOT_ALLOWED,
        ),
        (
            policy(grants(grant(scopes="[refund]", when="request.application == 'x'")), audiences=APPROVABLE),
            request("refund"),
            Reason.FACT_MISSING,
        ),
    ],
)
def test_what_would_be_refused_even_if_approved_says_why(rules: Policy, wanted: TokenRequest, reason: Reason) -> None:
    found = look(rules, wanted)
    assert (found.needed, found.reason) == (None, reason)


def test_what_is_revoked_needs_no_approval() -> None:
    stop = Revocation("r", Selector(workload=parse_pattern(SETTLER)), 1, "x", "why", stops_issuance=True)
    assert look(revocations=Revocations([stop])).reason is Reason.REVOKED
