"""Roots without their name constraints, and chains that h2corn refuses for theirs."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from issuer.rpc.trust_anchors import refused_authorities, without_name_constraints
from issuer_testing.spire.authority import Authority, pem_bundle

URI = x509.UniformResourceIdentifier("a.test")
UNREADABLE = b"-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n"


def permitting(name: x509.GeneralName) -> x509.NameConstraints:
    return x509.NameConstraints([name], None)


def key(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_a_root_with_name_constraints_keeps_its_name_and_key_alone() -> None:
    plain, constrained = Authority("a.test").root, Authority("a.test", name_constraints=permitting(URI)).root
    first, second = x509.load_pem_x509_certificates(without_name_constraints(pem_bundle([plain, constrained])))
    assert first == plain
    assert second.subject.public_bytes() == constrained.subject.public_bytes()
    assert key(second) == key(constrained)
    assert x509.OID_NAME_CONSTRAINTS not in {extension.oid for extension in second.extensions}


def test_such_a_root_is_signed_by_nobody_whom_somebody_trusts() -> None:
    constrained = Authority("a.test", name_constraints=permitting(URI)).root
    [root] = x509.load_pem_x509_certificates(without_name_constraints(pem_bundle([constrained])))
    with pytest.raises(InvalidSignature):
        root.verify_directly_issued_by(constrained)


@pytest.mark.parametrize("roots", [b"", b"nothing", UNREADABLE, pem_bundle([Authority("a.test").root]) + UNREADABLE])
def test_what_cannot_be_read_stays_as_it_is(roots: bytes) -> None:
    assert without_name_constraints(roots) == roots


@pytest.mark.parametrize(
    ("constraints", "refused"),
    [
        (permitting(URI), True),
        (x509.NameConstraints(None, [URI]), True),
        (permitting(x509.DirectoryName(x509.Name([]))), True),
        (permitting(x509.DNSName("a.test")), False),
        (permitting(x509.RFC822Name("a.test")), False),
        (None, False),
    ],
)
def test_a_chain_is_refused_for_constraints_on_uris_and_directory_names(
    constraints: x509.NameConstraints | None, *, refused: bool
) -> None:
    authority = Authority("a.test").intermediate(name_constraints=constraints)
    chain = authority.intermediate().issue("spiffe://a.test/b").chain_pem()
    assert bool(refused_authorities(chain)) is refused


def test_a_leaf_s_own_extensions_are_no_authority_s() -> None:
    assert refused_authorities(Authority("a.test").issue("spiffe://a.test/b").chain_pem()) == []
