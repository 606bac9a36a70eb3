from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from issuer_testing.spire.authority import (
    BOTH_USAGES,
    CA_CONSTRAINTS,
    NO_SUBJECT,
    SPIRE_SUBJECT,
    Authority,
    IssuedSvid,
    key_usage,
    utc_now,
)

SETTLER = "spiffe://prod.example/ns/payments/sa/settler"


def verify(svid: IssuedSvid, *roots: x509.Certificate) -> list[x509.Certificate]:
    verifier = PolicyBuilder().store(Store(list(roots))).build_client_verifier()
    return list(verifier.verify(svid.leaf, list(svid.intermediates)).chain)


def san(svid: IssuedSvid) -> x509.Extension[x509.SubjectAlternativeName]:
    return svid.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def uris(svid: IssuedSvid) -> list[str]:
    return san(svid).value.get_values_for_type(x509.UniformResourceIdentifier)


def test_an_svid_without_faults_verifies_against_its_root() -> None:
    prod = Authority("prod.example")
    svid = prod.issue(SETTLER)
    assert verify(svid, prod.root) == [svid.leaf, prod.root]


def test_an_svid_has_the_extensions_that_spire_gives() -> None:
    svid = Authority("prod.example").issue(SETTLER)
    usage = svid.leaf.extensions.get_extension_for_class(x509.KeyUsage)
    extended = svid.leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert list(extended.value) == list(BOTH_USAGES)
    assert svid.leaf.subject == SPIRE_SUBJECT
    assert uris(svid) == [SETTLER]
    assert not san(svid).critical


def test_an_intermediates_svid_verifies_only_with_its_chain() -> None:
    prod = Authority("prod.example")
    svid = prod.intermediate().intermediate().issue(SETTLER)
    assert len(verify(svid, prod.root)) == 4
    with pytest.raises(VerificationError):
        verify(svid.without_intermediates(), prod.root)


def test_a_foreign_authority_can_name_our_trust_domain() -> None:
    evil = Authority("evil.example")
    svid = evil.issue("spiffe://prod.example/admin")
    assert uris(svid) == ["spiffe://prod.example/admin"]
    assert verify(svid, evil.root)


def test_a_leaf_that_plays_ca_does_not_verify() -> None:
    prod = Authority("prod.example")
    forged = prod.impersonated_by(prod.issue(SETTLER)).issue("spiffe://prod.example/admin")
    with pytest.raises(VerificationError):
        verify(forged, prod.root)


def test_a_ttl_counts_from_now_and_backdates() -> None:
    leaf = Authority("prod.example").issue(SETTLER, ttl=timedelta(minutes=5)).leaf
    now = utc_now()
    assert timedelta(minutes=4, seconds=50) < leaf.not_valid_after_utc - now <= timedelta(minutes=5)
    assert leaf.not_valid_before_utc < now


def test_an_expired_svid_still_has_a_start_before_its_end() -> None:
    end = utc_now() - timedelta(hours=3)
    leaf = Authority("prod.example").issue(SETTLER, not_after=end).leaf
    assert leaf.not_valid_before_utc < leaf.not_valid_after_utc == end.replace(microsecond=0)


def test_a_not_yet_valid_svid_starts_where_it_was_told() -> None:
    start = utc_now() + timedelta(hours=2)
    leaf = Authority("prod.example").issue(SETTLER, not_before=start).leaf
    assert start.replace(microsecond=0) == leaf.not_valid_before_utc < leaf.not_valid_after_utc


@pytest.mark.parametrize(
    ("absent", "extension"),
    [
        ("usage", x509.KeyUsage),
        ("extended_usage", x509.ExtendedKeyUsage),
        ("constraints", x509.BasicConstraints),
    ],
)
def test_an_extension_can_be_left_out(absent: str, extension: type[x509.ExtensionType]) -> None:
    svid = Authority("prod.example").issue(SETTLER, **{absent: None})  # type: ignore[arg-type]
    with pytest.raises(x509.ExtensionNotFound):
        svid.leaf.extensions.get_extension_for_class(extension)


def test_faults_arrive_in_the_certificate() -> None:
    svid = Authority("prod.example").issue(
        SETTLER,
        uris=[SETTLER, "spiffe://prod.example/second"],
        subject=NO_SUBJECT,
        san_critical=False,
        constraints=CA_CONSTRAINTS,
        usage=key_usage("digital_signature", "key_cert_sign"),
        usage_critical=False,
    )
    usage = svid.leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert uris(svid) == [SETTLER, "spiffe://prod.example/second"]
    assert not san(svid).critical
    assert usage.value.key_cert_sign
    assert not usage.critical
    assert svid.leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_no_names_at_all_leave_the_san_out() -> None:
    svid = Authority("prod.example").issue(SETTLER, uris=())
    with pytest.raises(x509.ExtensionNotFound):
        san(svid)


def test_an_empty_subject_makes_the_san_critical() -> None:
    assert san(Authority("prod.example").issue(SETTLER, subject=NO_SUBJECT)).critical


def test_the_first_dns_name_is_also_the_common_name() -> None:
    svid = Authority("prod.example").issue(SETTLER, dns_names=["spiffe-issuer.workload.internal", "second.internal"])
    names = san(svid).value.get_values_for_type(x509.DNSName)
    assert names == ["spiffe-issuer.workload.internal", "second.internal"]
    assert svid.leaf.subject.rfc4514_string() == "CN=spiffe-issuer.workload.internal,O=SPIRE,C=US"


def test_name_constraints_reach_the_intermediate() -> None:
    constraints = x509.NameConstraints([x509.UniformResourceIdentifier("prod.example")], None)
    issuing = Authority("prod.example").intermediate(name_constraints=constraints)
    assert issuing.certificate.extensions.get_extension_for_class(x509.NameConstraints).critical


def test_the_private_key_is_not_in_the_repr() -> None:
    svid = Authority("prod.example").issue(SETTLER)
    assert repr(svid).startswith("IssuedSvid(spiffe_id=")
    assert "PrivateKey" not in repr(svid)
