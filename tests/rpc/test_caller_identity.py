"""Attacks on the caller's identity over real TLS: the server, its handshake, and its own verification after it.

TLS refuses some certificates before any of our code runs. There the test asserts both: that the handshake fails, and
that our verification refuses the very same chain with its own reason, so that nothing hangs on TLS alone.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from support.deployment import DEADLINE, ISSUER_ID, REQUEST, SETTLER, TRUST_DOMAIN, Deployment, reason_of
from support.svid_vectors import FixedBundles

from issuer.core.errors import IssuerError, Reason
from issuer.core.spiffe_id import TrustDomain
from issuer.core.verdicts import CallerVerifier
from issuer_api.v1 import issuer_service_pb2 as pb
from issuer_testing.deadline import wait_until
from issuer_testing.issuer_process import ISSUER_DNS_NAME
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
    from collections.abc import Iterator
    from pathlib import Path

    from issuer_api.v1 import issuer_service_pb2_grpc as pb_grpc

PARTNER, UNLISTED = "partner.test", "unlisted.test"
LISTED = frozenset({TrustDomain(TRUST_DOMAIN), TrustDomain(PARTNER)})
HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
HANDSHAKE = "handshake"
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""With empty SETTINGS (RFC 9113 section 3.4): some servers say nothing before it."""
OF_SETTLER = SETTLER.removeprefix(f"spiffe://{TRUST_DOMAIN}")


class World:
    """A deployment that federates with two trust domains and lists one of them."""

    def __init__(self, deployment: Deployment, transport: str) -> None:
        self.deployment = deployment
        self.keeps_connections = transport != "h2corn"
        self.reads_name_constraints = transport == "grpcio"
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
        guest = self.partner.issue(f"spiffe://{PARTNER}/guest")
        wait_until(lambda: self.attempt(guest) != HANDSHAKE, what="TLS knows them too", seconds=DEADLINE)

    def attempt(self, svid: IssuedSvid) -> str:
        """Return what a call with this certificate ends with: a reason, ``handshake``, or ``""`` for a token."""
        with self.deployment.stub(svid) as stub:
            return outcome(stub)

    def shakes_hands(self, svid: IssuedSvid, folder: Path) -> bool:
        """Return whether the server completes TLS with OpenSSL, which presents whatever it is told to.

        With TLS 1.3 a client learns only at its first read that the server refused its certificate (RFC 8446 section
        4.4.2.4), so this waits for the first bytes of HTTP/2.
        """
        chain, key = folder / "chain.pem", folder / "key.pem"
        chain.write_bytes(svid.chain_pem())
        key.write_bytes(svid.key_pem())
        context = ssl.create_default_context(cadata=pem_bundle([self.own.root]).decode())
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.set_alpn_protocols(["h2"])
        context.load_cert_chain(chain, key)
        host, _, port = self.deployment.issuer.address.rpartition(":")
        with socket.create_connection((host, int(port)), DEADLINE) as plain:
            try:
                with context.wrap_socket(plain, server_hostname=ISSUER_DNS_NAME) as connection:
                    connection.sendall(HTTP2_PREFACE)
                    return connection.recv(1) != b""
            except (ssl.SSLError, ConnectionError) as error:
                if isinstance(error, ssl.SSLCertVerificationError):  # ours, of the server
                    raise
                return False

    def wait_until_shut_to(self, svid: IssuedSvid, folder: Path) -> None:
        """Wait until TLS refuses a certificate; an update of the Workload API takes its time to get there."""
        wait_until(lambda: not self.shakes_hands(svid, folder), what="TLS refuses it", seconds=DEADLINE)

    def ended(self, reason: Reason) -> set[str]:
        """Return with what calls on an open connection may end after a change of bundles.

        A connection is kept, and our verification refuses the call. h2corn is changed for another server that
        knows the new bundles; a caller that dials again too soon, or not soon enough, meets the one or the other.
        """
        return {reason} if self.keeps_connections else {reason, HANDSHAKE}

    def own_reason(self, svid: IssuedSvid) -> Reason | None:
        """Return what our own verification says to the same certificate."""
        bundles = FixedBundles.of(self.own, self.partner, self.unlisted)
        bundles.own = ISSUER_ID
        verifier = CallerVerifier(bundles, lambda: LISTED)
        leaf, *rest = svid.cert_chain
        try:
            verifier.verify(pem_bundle([leaf]), pem_bundle(rest) or None, utc_now())
        except IssuerError as error:
            return error.reason
        return None


Ask = Callable[["pb_grpc.IssuerServiceStub"], object]


def for_a_token(stub: pb_grpc.IssuerServiceStub) -> object:
    return stub.IssueToken(REQUEST, timeout=DEADLINE)


def for_access(stub: pb_grpc.IssuerServiceStub) -> object:
    """Ask what may be asked for, which an SVID may do to its last second; a token has to live for a while."""
    return stub.ListAccess(pb.ListAccessRequest(), timeout=DEADLINE)


def outcome(stub: pb_grpc.IssuerServiceStub, ask: Ask = for_a_token) -> str:
    """Call, and return a reason, ``handshake`` when the server answered nothing, or ``""`` for an answer."""
    try:
        ask(stub)
    except grpc.RpcError as error:
        reason, code = reason_of(error), error.code()
        refused = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
        if code not in (refused if reason else {grpc.StatusCode.UNAVAILABLE}):
            raise
        return reason or HANDSHAKE
    return ""


@contextmanager
def running_world(folder: Path, transport: str) -> Iterator[World]:
    deployment = Deployment(folder, federated=(PARTNER,), options={"server": {"transport": transport}})
    prepared = World(deployment, transport)
    with deployment:
        prepared.wait_until_federated()
        yield prepared


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, transport: str) -> Iterator[World]:
    with running_world(tmp_path_factory.mktemp("issuer"), transport) as running:
        yield running


@pytest.fixture
def own_world(tmp_path: Path, transport: str) -> Iterator[World]:
    """A world of the test's own, whose bundles it changes."""
    with running_world(tmp_path, transport) as running:
        yield running


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

_STOPPED_BY_BOTH = {
    "trust domain that is not listed",
    "a root nobody knows",
    "extended key usage of a server only",
    "expired",
    "not yet valid",
    "intermediate missing",
    "intermediate expired",
    "path length exceeded",
    "an SVID as CA",
    "name constraints violated",
}
STOPPED_BY_TLS = {
    "grpcio": {*_STOPPED_BY_BOTH, "no digitalSignature", "intermediate that may not sign"},
    # webpki, which both use, does not look at key usage
    "h2corn": {*_STOPPED_BY_BOTH, "CA as leaf"},
    "native": {*_STOPPED_BY_BOTH, "CA as leaf"},
}

NOT_SHOWN_BY_GRPCIO = {"no digitalSignature"}
"""What grpcio's client refuses to show, so that only OpenSSL's handshake tells what the server would do."""

GOOD: dict[str, Callable[[World], IssuedSvid]] = {
    "as SPIRE makes it": lambda w: w.own.issue(SETTLER),
    "with an intermediate": lambda w: w.own.intermediate().issue(SETTLER),
    "with DNS names": lambda w: w.own.issue(SETTLER, dns_names=["a.test", "b.test"]),
    "with an empty subject": lambda w: w.own.issue(SETTLER, subject=NO_SUBJECT),
    "without extended key usage": lambda w: w.own.issue(SETTLER, extended_usage=None),
    "with RSA": lambda w: w.own.issue(SETTLER, key=rsa.generate_private_key(65537, 2048)),
    "with name constraints satisfied": lambda w: constrained(w, TRUST_DOMAIN).issue(SETTLER),
}


KNOWN_GAPS = {
    ("with name constraints satisfied", transport): "webpki cannot read name constraints for URIs, and refuses those"
    for transport in ("h2corn", "native")
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_certificate_gets_a_token(world: World, tmp_path: Path, name: str, transport: str) -> None:
    svid = GOOD[name](world)
    known_gap = (name, transport) in KNOWN_GAPS
    assert world.shakes_hands(svid, tmp_path) is not known_gap
    assert world.attempt(svid) == (HANDSHAKE if known_gap else "")
    assert world.own_reason(svid) is None


def test_a_federated_caller_is_verified_and_left_to_policy(world: World) -> None:
    """No grant names it: what refuses it is policy, which is asked only about verified callers."""
    svid = world.partner.issue(f"spiffe://{PARTNER}/a")
    assert world.attempt(svid) == Reason.AUDIENCE_NOT_ALLOWED
    line = world.deployment.issuer.wait_for("rpc", caller=f"spiffe://{PARTNER}/a")
    assert line["reason"] == Reason.AUDIENCE_NOT_ALLOWED


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_whether_tls_stops_it_or_not(
    world: World, tmp_path: Path, name: str, transport: str
) -> None:
    """What TLS lets through is refused with its reason, and what TLS stops would be refused without it."""
    make, reason = ATTACKS[name]
    svid = make(world)
    stopped = name in STOPPED_BY_TLS[transport]
    assert world.shakes_hands(svid, tmp_path) is not stopped
    assert world.attempt(svid) == (HANDSHAKE if stopped or name in NOT_SHOWN_BY_GRPCIO else reason)
    assert world.own_reason(svid) is reason


def test_a_refused_caller_is_never_logged_as_a_caller(world: World) -> None:
    forged = f"spiffe://{TRUST_DOMAIN}/admin"
    before = len(world.deployment.issuer.log())
    assert world.attempt(world.partner.issue(forged)) == Reason.TRUST_DOMAIN_MISMATCH
    line = world.deployment.issuer.wait_for("rpc", after=before)
    assert line["reason"] == Reason.TRUST_DOMAIN_MISMATCH
    assert "caller" not in line


def test_an_svid_that_expires_during_an_open_connection_is_refused(world: World) -> None:
    svid = world.own.issue(SETTLER, not_after=utc_now() + 3 * SECOND)
    with world.deployment.stub(svid) as stub:
        assert outcome(stub, for_access) == ""
        assert next_outcome(stub, ask=for_access) == Reason.SVID_EXPIRED
        assert outcome(stub) == Reason.SVID_EXPIRED
    assert utc_now() > svid.leaf.not_valid_after_utc


def test_an_intermediate_that_expires_during_an_open_connection_ends_its_callers(world: World) -> None:
    svid = world.own.intermediate(not_after=utc_now() + 3 * SECOND).issue(SETTLER)
    with world.deployment.stub(svid) as stub:
        assert outcome(stub, for_access) == ""
        assert next_outcome(stub, ask=for_access) == Reason.CHAIN_INTERMEDIATE_EXPIRED
        assert outcome(stub) == Reason.CHAIN_INTERMEDIATE_EXPIRED


def test_a_root_removed_during_an_open_connection_ends_its_callers(own_world: World, tmp_path: Path) -> None:
    svid, api = own_world.own.issue(SETTLER), own_world.deployment.identity.api
    kept = own_world.partner.issue(f"spiffe://{PARTNER}/a")
    with own_world.deployment.stub(svid) as stub:
        assert outcome(stub) == ""
        api.change(bundle=(Authority(TRUST_DOMAIN).root,))
        assert next_outcome(stub) in own_world.ended(Reason.CHAIN_AUTHORITY_REMOVED)
        own_world.wait_until_shut_to(svid, tmp_path)
        assert own_world.attempt(kept) == Reason.AUDIENCE_NOT_ALLOWED
        api.change(bundle=(own_world.own.root,))
        assert next_outcome(stub, Reason.CHAIN_AUTHORITY_REMOVED, HANDSHAKE) == ""


def test_a_federated_bundle_that_becomes_empty_ends_its_callers_and_no_others(own_world: World) -> None:
    svid, api = own_world.partner.issue(f"spiffe://{PARTNER}/a"), own_world.deployment.identity.api
    others = {UNLISTED: (own_world.unlisted.root,)}
    with own_world.deployment.stub(svid) as stub, own_world.deployment.stub() as own:
        assert outcome(stub) == Reason.AUDIENCE_NOT_ALLOWED
        api.change(federated={PARTNER: (), **others})
        assert next_outcome(stub, Reason.AUDIENCE_NOT_ALLOWED) in own_world.ended(Reason.TRUST_BUNDLE_EMPTY)
        assert outcome(own) == ""
        if own_world.keeps_connections:
            api.change(federated=others)
            assert next_outcome(stub, Reason.TRUST_BUNDLE_EMPTY) == Reason.TRUST_BUNDLE_MISSING
        assert outcome(own) == own_world.attempt(own_world.own.issue(SETTLER)) == ""


def test_no_bundle_at_all_means_no_caller_at_all(own_world: World, tmp_path: Path) -> None:
    """No roots must never mean those of the system, or those of before."""
    svid, api = own_world.own.issue(SETTLER), own_world.deployment.identity.api
    with own_world.deployment.stub(svid) as stub:
        assert outcome(stub) == ""
        api.change(bundle=(), federated={})
        assert next_outcome(stub) in own_world.ended(Reason.TRUST_BUNDLE_EMPTY)
        own_world.wait_until_shut_to(svid, tmp_path)
        api.change(bundle=(own_world.own.root,))
        assert next_outcome(stub, Reason.TRUST_BUNDLE_EMPTY, HANDSHAKE) == ""
    assert own_world.attempt(svid) == ""


def test_name_constraints_of_a_root_are_kept_whatever_tls_makes_of_them(own_world: World) -> None:
    """For webpki such a root is replaced by one without, so that only our verification is left to keep them."""
    inside, outside = (
        Authority(TRUST_DOMAIN, name_constraints=x509.NameConstraints([x509.UniformResourceIdentifier(name)], None))
        for name in (TRUST_DOMAIN, "other.test")
    )
    bundle = (own_world.own.root, inside.root, outside.root)
    own_world.deployment.identity.api.change(bundle=bundle)
    svid = inside.issue(SETTLER)
    wait_until(lambda: own_world.attempt(svid) != HANDSHAKE, what="the root is known", seconds=DEADLINE)
    assert own_world.attempt(svid) == own_world.attempt(inside.intermediate().issue(SETTLER)) == ""
    stopped = own_world.reads_name_constraints  # by BoringSSL, which knows such constraints
    refused = HANDSHAKE if stopped else Reason.CHAIN_NAME_CONSTRAINTS
    assert own_world.attempt(outside.issue(SETTLER)) == refused
    assert own_world.attempt(outside.intermediate().issue(SETTLER)) == refused


def test_a_federated_root_that_moves_to_another_trust_domain_certifies_for_the_first_no_more(own_world: World) -> None:
    svid, api = own_world.partner.issue(f"spiffe://{PARTNER}/a"), own_world.deployment.identity.api
    with own_world.deployment.stub(svid) as stub:
        assert outcome(stub) == Reason.AUDIENCE_NOT_ALLOWED
        api.change(federated={PARTNER: (Authority(PARTNER).root,), UNLISTED: (own_world.partner.root,)})
        assert next_outcome(stub, Reason.AUDIENCE_NOT_ALLOWED) in own_world.ended(Reason.TRUST_DOMAIN_MISMATCH)


def next_outcome(stub: pb_grpc.IssuerServiceStub, *present: str, ask: Ask = for_a_token) -> str:
    """Call on the channel until something else than ``present``, or an answer, happens, and return that."""

    def other() -> tuple[str] | None:
        result = outcome(stub, ask)
        return (result,) if result not in (present or ("",)) else None

    return wait_until(other, what=f"calls end with something else than {present!r}", seconds=DEADLINE)[0]
