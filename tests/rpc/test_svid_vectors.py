"""Every vector of ``tests/vectors/x509svid`` that any clock judges alike, presented to the real server over mutual TLS.

The trust domains of the vectors are federated ones here. TLS may refuse a chain before our code sees it; what it must
never end with is an answer to a chain that the vector calls bad.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from support.deployment import DEADLINE, REQUEST, Deployment, reason_of
from support.svid_vectors import OWN_ID, Vector, load_vectors

from issuer.core.errors import Reason
from issuer_api.v1 import issuer_service_pb2_grpc as pb_grpc
from issuer_testing.issuer_process import ISSUER_DNS_NAME
from issuer_testing.spire.authority import pem_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator

VERIFIED = Reason.AUDIENCE_NOT_ALLOWED
"""Policy, which knows none of these callers, is asked about verified ones alone."""
STOPPED_BY_TLS = "handshake"
_NO_CLIENT_USAGE = {
    "valid_intermediate_for_anything": "both TLS libraries want clientAuth by name in a CA's extended key usage",
}
_URI_CONSTRAINTS = "webpki cannot read name constraints for URIs, and refuses intermediates that have some"
_WEBPKI = {
    **_NO_CLIENT_USAGE,
    "valid_name_constraints_satisfied_intermediate": _URI_CONSTRAINTS,
    "valid_name_constraints_satisfied_intermediate_not_critical": _URI_CONSTRAINTS,
    "valid_name_constraints_satisfied_by_domain_intermediate": _URI_CONSTRAINTS,
    "valid_name_constraints_satisfied_by_domain_intermediate_not_critical": _URI_CONSTRAINTS,
    "valid_name_constraints_exclude_another_intermediate": _URI_CONSTRAINTS,
    "valid_name_constraints_exclude_another_intermediate_not_critical": _URI_CONSTRAINTS,
}
KNOWN_GAPS = {
    "grpcio": {
        **_NO_CLIENT_USAGE,
        "valid_p521": "BoringSSL, which gRPC is built with, offers no signature algorithm for P-521",
    },
    "h2corn": _WEBPKI,
    "native": _WEBPKI,
}
"""Good vectors that TLS refuses before our code sees them, each with the reason."""
VECTORS = [vector for vector in load_vectors() if vector.any_time and vector.reason is not Reason.CALLER_IS_ISSUER]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, transport: str) -> Iterator[Deployment]:
    trust_domains = sorted({str(name) for vector in VECTORS for name in vector.allowed})
    options = {"server": {"transport": transport}}
    with Deployment(tmp_path_factory.mktemp("issuer"), federated=tuple(trust_domains), options=options) as running:
        yield running


def federate(deployment: Deployment, vector: Vector, transport: str) -> None:
    api, issuer = deployment.identity.api, deployment.issuer
    if api.answer.federated != vector.bundles:
        before = len(issuer.log())
        api.change(federated=dict(vector.bundles))
        issuer.wait_for("svid_updated", DEADLINE, after=before)
        if transport != "grpcio":
            issuer.wait_for("tls_changed", DEADLINE, after=before)


def outcome(deployment: Deployment, vector: Vector) -> str:
    roots = pem_bundle([deployment.authority.authority.root])
    credentials = grpc.ssl_channel_credentials(roots, vector.key_pem, vector.leaf_pem + (vector.chain_pem or b""))
    options = [("grpc.ssl_target_name_override", ISSUER_DNS_NAME), ("grpc.use_local_subchannel_pool", 1)]
    with (
        grpc.secure_channel(deployment.issuer.address, credentials, options) as channel,
        pytest.raises(grpc.RpcError) as failed,
    ):
        pb_grpc.IssuerServiceStub(channel).IssueToken(REQUEST, timeout=DEADLINE)
    return reason_of(failed.value) or {grpc.StatusCode.UNAVAILABLE: STOPPED_BY_TLS}[failed.value.code()]


@pytest.mark.parametrize("vector", [vector for vector in VECTORS if not vector.reason], ids=lambda vector: vector.name)
def test_the_server_verifies_the_good_vector(deployment: Deployment, vector: Vector, transport: str) -> None:
    federate(deployment, vector, transport)
    assert outcome(deployment, vector) == (STOPPED_BY_TLS if vector.name in KNOWN_GAPS[transport] else VERIFIED)


@pytest.mark.parametrize("vector", [vector for vector in VECTORS if vector.reason], ids=lambda vector: vector.name)
def test_the_server_refuses_the_bad_vector(deployment: Deployment, vector: Vector, transport: str) -> None:
    federate(deployment, vector, transport)
    assert outcome(deployment, vector) in {vector.reason, STOPPED_BY_TLS}


def test_the_server_is_not_the_vectors_verifier(deployment: Deployment) -> None:
    """The one vector left out is about the verifier's own identity, which here is another one."""
    assert deployment.identity.spiffe_id != OWN_ID
