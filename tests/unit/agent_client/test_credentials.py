from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from agent_client.credentials import (
    SpiffeIdNotGiven,
    SvidOutdated,
    TrustBundleMissing,
    channel_material,
    pick_svid,
    refuse_outdated,
)
from agent_client.workload_api_errors import WorkloadApiUnavailable
from agent_client.x509_context import X509Context, X509Svid
from issuer_testing.spire.authority import Authority, pem_bundle

PROD, PARTNER = Authority("prod.example"), Authority("partner.example")
A, B = "spiffe://prod.example/a", "spiffe://prod.example/b"


def svid_of(spiffe_id: str) -> X509Svid:
    issued = PROD.intermediate().issue(spiffe_id)
    return X509Svid(spiffe_id, issued.cert_chain, "", issued.key_pem())


CONTEXT = X509Context(
    (svid_of(A), svid_of(B)), {"prod.example": (PROD.root,), "partner.example": (PARTNER.root,), "gone.example": ()}
)


def test_the_first_identity_is_the_default() -> None:
    assert pick_svid(CONTEXT, None).spiffe_id == A


def test_an_identity_is_picked_byte_for_byte() -> None:
    assert pick_svid(CONTEXT, B).spiffe_id == B


@pytest.mark.parametrize("wrong", ["", "spiffe://prod.example/B", B + "/", "b", "spiffe://PROD.example/b"])
def test_an_identity_that_is_not_given_is_told_with_those_that_are(wrong: str) -> None:
    with pytest.raises(SpiffeIdNotGiven) as error:
        pick_svid(CONTEXT, wrong)
    assert f"{A}, {B}" in str(error.value)


@pytest.mark.parametrize(
    ("issuer_trust_domain", "root"),
    [(None, PROD.root), ("prod.example", PROD.root), ("partner.example", PARTNER.root)],
    ids=["own", "own by name", "another"],
)
def test_only_the_issuers_trust_domain_is_trusted(issuer_trust_domain: str | None, root: x509.Certificate) -> None:
    material = channel_material(CONTEXT, CONTEXT.svids[0], issuer_trust_domain)
    assert x509.load_pem_x509_certificates(material.roots) == [root]


@pytest.mark.parametrize("trust_domain", ["gone.example", "unknown.example"])
def test_without_authorities_there_is_nobody_to_trust(trust_domain: str) -> None:
    """Empty roots would make gRPC fall back to those of the operating system."""
    with pytest.raises(TrustBundleMissing, match=trust_domain):
        channel_material(CONTEXT, CONTEXT.svids[0], trust_domain)


def test_the_whole_chain_is_presented_and_the_leaf_is_who_calls() -> None:
    svid = CONTEXT.svids[0]
    material = channel_material(CONTEXT, svid, None)
    assert material.certificate_chain == pem_bundle(svid.certificates)
    assert len(svid.certificates) == 2
    assert material.caller.spiffe_id == A
    assert material.caller.certificate_sha256 == svid.certificates[0].fingerprint(SHA256())


def test_equal_answers_make_equal_material() -> None:
    again = dataclasses.replace(CONTEXT)
    assert channel_material(CONTEXT, CONTEXT.svids[0], None) == channel_material(again, again.svids[0], None)


def test_an_svid_is_outdated_from_its_last_moment_on() -> None:
    svid = CONTEXT.svids[0]
    refuse_outdated(svid, svid.not_after - timedelta(seconds=1), None)
    with pytest.raises(SvidOutdated, match="clock"):
        refuse_outdated(svid, svid.not_after, None)


def test_an_outdated_svid_comes_with_why_there_is_no_newer_one() -> None:
    away = WorkloadApiUnavailable("the agent is gone")
    with pytest.raises(SvidOutdated, match="the agent is gone") as error:
        refuse_outdated(CONTEXT.svids[0], CONTEXT.svids[0].not_after, away)
    assert error.value.__cause__ is away
