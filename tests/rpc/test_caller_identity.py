"""Attacks on the caller's identity over real TLS: the server, its handshake, and its own verification after it.

TLS refuses some certificates before any of our code runs. There the test asserts both: that the handshake fails, and
that our verification refuses the very same chain with its own reason, so that nothing hangs on TLS alone.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from cryptography import x509
from support.deployment import DEADLINE, ISSUER_ID, REQUEST, SETTLER, TRUST_DOMAIN, Deployment, reason_of
from support.svid_vectors import FixedBundles

from issuer.core.errors import IssuerError, Reason
from issuer.core.spiffe_id import TrustDomain
from issuer.core.verdicts import CallerVerifier
from issuer_testing.deadline import wait_until
from issuer_testing.spire.authority import (
    CA_CONSTRAINTS,
    LEAF_KEY_USAGE,
    NO_SUBJECT,
    Authority,
    IssuedSvid,
    key_usage,
    pem_bundle,
    utc_now,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from issuer_api.v1 import issuer_service_pb2_grpc as pb_grpc

PARTNER, UNLISTED = "partner.test", "unlisted.test"
LISTED = frozenset({TrustDomain(TRUST_DOMAIN), TrustDomain(PARTNER)})
HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
HANDSHAKE = "handshake"
OF_SETTLER = SETTLER.removeprefix(f"spiffe://{TRUST_DOMAIN}")


class World:
    """A deployment that federates with two trust domains and lists one of them."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.own = deployment.authority.authority
        self.partner, self.unlisted = Authority(PARTNER), Authority(UNLISTED)
        deployment.authority.federate(self.partner)
        deployment.authority.federate(self.unlisted)

    def wait_until_federated(self) -> None:
        """Wait until the issuer has the bundles, which SPIRE pushes when it likes."""

        def known() -> bool:
            lines = (line for line in self.deployment.issuer.log() if line.get("event") == "svid_updated")
            return any({PARTNER, UNLISTED} <= set(line["trust_domains"]) for line in lines)

        wait_until(known, what="the issuer knows the federated bundles", seconds=DEADLINE)

    def attempt(self, svid: IssuedSvid) -> str:
        """Return what a call with this certificate ends with: a reason, ``handshake``, or ``""`` for a token."""
        with self.deployment.stub(svid) as stub:
            return outcome(stub)

    def own_reason(self, svid: IssuedSvid) -> Reason | None:
        """Return what our own verification says to the same certificate."""
        verifier = CallerVerifier(FixedBundles.of(self.own, self.partner, self.unlisted), lambda: LISTED)
        verifier._bundles.own = ISSUER_ID  # type: ignore[attr-defined]
        leaf, *rest = svid.cert_chain
        try:
            verifier.verify(pem_bundle([leaf]), pem_bundle(rest) or None, utc_now())
        except IssuerError as error:
            return error.reason
        return None


def outcome(stub: pb_grpc.IssuerServiceStub) -> str:
    """Call, and return a reason, ``handshake`` when the server answered nothing, or ``""`` for a token."""
    try:
        stub.IssueToken(REQUEST, timeout=DEADLINE)
    except grpc.RpcError as error:
        if reason := reason_of(error):
            assert error.code() in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}, error
            return reason
        assert error.code() is grpc.StatusCode.UNAVAILABLE, error
        return HANDSHAKE
    return ""


def federated_deployment(folder: Any) -> Deployment:  # noqa: ANN401 - a path
    return Deployment(folder, federated=(PARTNER,))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    deployment = federated_deployment(tmp_path_factory.mktemp("issuer"))
    prepared = World(deployment)
    with deployment:
        prepared.wait_until_federated()
        yield prepared


def constrained(world: World, permitted: str) -> Authority:
    names = x509.NameConstraints([x509.UniformResourceIdentifier(permitted)], None)
    return world.own.intermediate(name_constraints=names)


def at(path: str) -> Callable[[World], IssuedSvid]:
    """Return the issuing of a leaf with this URI SAN."""
    return lambda world: world.own.issue(f"spiffe://{TRUST_DOMAIN}{path}")


ATTACKS: dict[str, tuple[Callable[[World], IssuedSvid], Reason]] = {
    # The trust domain.
    "cross domain": (lambda w: w.partner.issue(SETTLER), Reason.TRUST_DOMAIN_MISMATCH),
    "cross domain, the other way": (lambda w: w.own.issue(f"spiffe://{PARTNER}/a"), Reason.TRUST_DOMAIN_MISMATCH),
    "cross domain by an intermediate": (
        lambda w: w.partner.intermediate(uri="").issue(SETTLER),
        Reason.TRUST_DOMAIN_MISMATCH,
    ),
    "trust domain that is not listed": (
        lambda w: w.unlisted.issue(f"spiffe://{UNLISTED}/a"),
        Reason.TRUST_DOMAIN_NOT_ALLOWED,
    ),
    "unlisted trust domain, signed by a listed one": (
        lambda w: w.own.issue(f"spiffe://{UNLISTED}/a"),
        Reason.TRUST_DOMAIN_NOT_ALLOWED,
    ),
    "the issuer's own SVID": (lambda w: w.own.issue(ISSUER_ID), Reason.CALLER_IS_ISSUER),
    "a root nobody knows": (lambda _: Authority(TRUST_DOMAIN).issue(SETTLER), Reason.CHAIN_INCOMPLETE),
    # The leaf.
    "two URI SANs": (
        lambda w: w.own.issue(SETTLER, uris=[SETTLER, f"{SETTLER}2"]),
        Reason.SVID_URI_SAN_MULTIPLE,
    ),
    "two URI SANs, one no SPIFFE ID": (
        lambda w: w.own.issue(SETTLER, uris=["https://dev.test/", SETTLER]),
        Reason.SVID_URI_SAN_MULTIPLE,
    ),
    "no SAN": (lambda w: w.own.issue(SETTLER, uris=()), Reason.SVID_URI_SAN_MISSING),
    "no URI SAN": (lambda w: w.own.issue(SETTLER, uris=(), dns_names=["a.test"]), Reason.SVID_URI_SAN_MISSING),
    "empty subject, SAN not critical": (
        lambda w: w.own.issue(SETTLER, subject=NO_SUBJECT, san_critical=False),
        Reason.SVID_URI_SAN_NOT_CRITICAL,
    ),
    "CA as leaf": (lambda w: w.own.issue(SETTLER, constraints=CA_CONSTRAINTS), Reason.SVID_IS_CA),
    "keyCertSign": (
        lambda w: w.own.issue(SETTLER, usage=key_usage("digital_signature", "key_cert_sign")),
        Reason.SVID_KEY_USAGE_CERT_SIGN,
    ),
    "cRLSign": (
        lambda w: w.own.issue(SETTLER, usage=key_usage("digital_signature", "crl_sign")),
        Reason.SVID_KEY_USAGE_CRL_SIGN,
    ),
    "key usage missing": (lambda w: w.own.issue(SETTLER, usage=None), Reason.SVID_KEY_USAGE_MISSING),
    "key usage not critical": (
        lambda w: w.own.issue(SETTLER, usage=LEAF_KEY_USAGE, usage_critical=False),
        Reason.SVID_KEY_USAGE_NOT_CRITICAL,
    ),
    "no digitalSignature": (
        lambda w: w.own.issue(SETTLER, usage=key_usage("key_agreement")),
        Reason.SVID_KEY_USAGE_NO_DIGITAL_SIGNATURE,
    ),
    "extended key usage of a client only": (
        lambda w: w.own.issue(SETTLER, extended_usage=[x509.OID_CLIENT_AUTH]),
        Reason.SVID_EXTENDED_KEY_USAGE,
    ),
    "extended key usage of a server only": (
        lambda w: w.own.issue(SETTLER, extended_usage=[x509.OID_SERVER_AUTH]),
        Reason.SVID_EXTENDED_KEY_USAGE,
    ),
    "expired": (lambda w: w.own.issue(SETTLER, not_after=utc_now() - SECOND), Reason.SVID_EXPIRED),
    "not yet valid": (lambda w: w.own.issue(SETTLER, not_before=utc_now() + HOUR), Reason.SVID_NOT_YET_VALID),
    # The chain.
    "intermediate missing": (
        lambda w: w.own.intermediate().issue(SETTLER).without_intermediates(),
        Reason.CHAIN_INCOMPLETE,
    ),
    "intermediate expired": (
        lambda w: w.own.intermediate(not_before=utc_now() - HOUR, not_after=utc_now() - SECOND).issue(SETTLER),
        Reason.CHAIN_INTERMEDIATE_EXPIRED,
    ),
    "intermediate of another domain": (
        lambda w: w.partner.intermediate().issue(SETTLER),
        Reason.CHAIN_INTERMEDIATE_FOREIGN,
    ),
    "intermediate that may not sign": (
        lambda w: w.own.intermediate(usage=key_usage("crl_sign")).issue(SETTLER),
        Reason.CHAIN_INVALID,
    ),
    "path length exceeded": (
        lambda w: (
            w.own.intermediate(constraints=x509.BasicConstraints(ca=True, path_length=0)).intermediate().issue(SETTLER)
        ),
        Reason.CHAIN_INVALID,
    ),
    "an SVID as CA": (
        lambda w: w.own.impersonated_by(w.own.issue(f"spiffe://{TRUST_DOMAIN}/b")).issue(SETTLER),
        Reason.CHAIN_INVALID,
    ),
    "name constraints violated": (
        lambda w: constrained(w, "other.test").issue(SETTLER),
        Reason.CHAIN_NAME_CONSTRAINTS,
    ),
    # The SPIFFE ID.
    "scheme in upper case": (
        lambda w: w.own.issue(f"SPIFFE://{TRUST_DOMAIN}{OF_SETTLER}"),
        Reason.SPIFFE_ID_NOT_CANONICAL,
    ),
    "trust domain in upper case": (
        lambda w: w.own.issue(f"spiffe://DEV.test{OF_SETTLER}"),
        Reason.SPIFFE_ID_NOT_CANONICAL,
    ),
    "percent-encoded": (at("/ns/%70ayments"), Reason.SPIFFE_ID_NOT_CANONICAL),
    "port": (at(f":443{OF_SETTLER}"), Reason.SPIFFE_ID_NOT_CANONICAL),
    "query": (at(f"{OF_SETTLER}?a"), Reason.SPIFFE_ID_NOT_CANONICAL),
    "fragment": (at(f"{OF_SETTLER}#a"), Reason.SPIFFE_ID_NOT_CANONICAL),
    "empty segment": (at("/ns//payments"), Reason.SPIFFE_ID_NOT_CANONICAL),
    "dot dot": (at("/ns/../payments"), Reason.SPIFFE_ID_NOT_CANONICAL),
    "trailing slash": (at(f"{OF_SETTLER}/"), Reason.SPIFFE_ID_NOT_CANONICAL),
    "2,049 bytes": (at("/" + "a" * (2049 - len(f"spiffe://{TRUST_DOMAIN}/"))), Reason.SPIFFE_ID_TOO_LONG),
    "no path": (at(""), Reason.SPIFFE_ID_WITHOUT_PATH),
}
