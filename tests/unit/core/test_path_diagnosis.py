"""What vectors cannot say: how far the search for a reason goes."""

from __future__ import annotations

import pytest
from cryptography import x509
from support.svid_vectors import FixedBundles
from vectors.x509svid.certificates import Issued, authority, leaf

from issuer.core.errors import Reason
from issuer.core.path_diagnosis import MAX_SIGNATURES, why_no_path
from issuer.core.spiffe_id import TrustDomain

PROD = TrustDomain("prod.example")
ONE_NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root")])


def of_one_name(number: int, trust_domain: str = "partner.example") -> Issued:
    return authority(f"{trust_domain} {number}", trust_domain, subject=ONE_NAME)


def reason(presented: Issued, intermediates: list[Issued], **bundles: list[Issued]) -> Reason:
    held = {f"{name}.example": tuple(one.certificate for one in some) for name, some in bundles.items()}
    chain = [intermediate.certificate for intermediate in intermediates]
    return why_no_path(presented.certificate, chain, PROD, FixedBundles(held))[0]


@pytest.mark.parametrize(
    ("authorities", "expected"),
    [(MAX_SIGNATURES, Reason.TRUST_DOMAIN_MISMATCH), (MAX_SIGNATURES + 1, Reason.CHAIN_INCOMPLETE)],
)
def test_as_many_signatures_are_checked_and_no_more(authorities: int, expected: Reason) -> None:
    partner = [of_one_name(number) for number in range(authorities)]
    presented = leaf("signed by the last", "spiffe://prod.example/a", partner[-1])
    assert reason(presented, [], prod=[authority("prod root", PROD.name)], partner=partner) is expected


def test_the_bound_is_one_for_all_bundles_together() -> None:
    half = MAX_SIGNATURES // 2
    own = [of_one_name(number, PROD.name) for number in range(half)]
    partner = [of_one_name(number) for number in range(half + 1)]
    presented = leaf("signed by the last of two", "spiffe://prod.example/a", partner[-1])
    assert reason(presented, [], prod=own, partner=partner) is Reason.CHAIN_INCOMPLETE
    assert reason(presented, [], prod=own[1:], partner=partner) is Reason.TRUST_DOMAIN_MISMATCH


def test_a_signature_that_holds_counts_too() -> None:
    partner = [of_one_name(number) for number in range(MAX_SIGNATURES)]
    between = authority("between", "partner.example", partner[-1])
    presented = leaf("signed by the one between", "spiffe://prod.example/a", between)
    own = [authority("prod root", PROD.name)]
    assert reason(presented, [between], prod=own, partner=partner) is Reason.CHAIN_INCOMPLETE
    assert reason(presented, [between], prod=own, partner=partner[1:]) is Reason.TRUST_DOMAIN_MISMATCH


def test_authorities_of_other_names_cost_nothing() -> None:
    others = [authority(f"other {number}", "partner.example") for number in range(MAX_SIGNATURES + 1)]
    presented = leaf("signed beyond others", "spiffe://prod.example/a", of_one_name(0))
    own = [authority("prod root", PROD.name)]
    assert reason(presented, [], prod=own, partner=[*others, of_one_name(0)]) is Reason.TRUST_DOMAIN_MISMATCH
