"""A real gRPC server in the issuer's place, made to lie."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from agent_client import ISSUER_DNS_NAME, SyncIssuerClient
from issuer_api.v1 import issuer_service_pb2 as pb
from issuer_api.v1 import issuer_service_pb2_grpc as pb_grpc
from issuer_testing.spire.authority import Authority, pem_bundle, utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from issuer_testing.spire.authority import IssuedSvid
    from issuer_testing.spire.workload_api import WorkloadApiServer

WORKLOAD = "spiffe://dev.test/workload"
ISSUER = "spiffe://dev.test/spiffe-issuer"
API = "https://api.test"


@dataclass
class Liar(pb_grpc.IssuerServiceServicer):
    """Answers as an issuer would, until a test changes the claims, the answer or the whole behaviour."""

    claims: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    behaviour: Callable[[grpc.ServicerContext], None] = lambda _: None
    calls: int = 0
    seen: list[pb.IssueTokenRequest] = field(default_factory=list)

    def IssueToken(self, request: pb.IssueTokenRequest, context: grpc.ServicerContext) -> pb.IssueTokenResponse:  # noqa: N802
        self.calls += 1
        self.seen.append(request)
        self.behaviour(context)
        now = int(utc_now().timestamp())
        claims: dict[str, Any] = {
            "sub": WORKLOAD,
            "client_id": WORKLOAD,
            "aud": request.audience,
            "scope": " ".join(request.scopes),
        }
        claims |= {"iat": now, "exp": now + 60, "jti": "one"} | self.claims
        answer: dict[str, Any] = {
            "token": token_of(claims),
            "token_type": "Bearer",
            "expire_time": Timestamp(seconds=now + 60),
            "renew_time": Timestamp(seconds=now + 30),
            "scopes": request.scopes,
            "token_id": "one",
            "decision_id": "decision",
        }
        return pb.IssueTokenResponse(**(answer | self.fields))

    def BatchIssueTokens(  # noqa: N802
        self, request: pb.BatchIssueTokensRequest, context: grpc.ServicerContext
    ) -> pb.BatchIssueTokensResponse:
        response = self.IssueToken(request.requests[0], context)
        return pb.BatchIssueTokensResponse(results=[pb.BatchIssueTokensResult(response=response)])

    def ListAccess(self, _: pb.ListAccessRequest, context: grpc.ServicerContext) -> pb.ListAccessResponse:  # noqa: N802
        self.behaviour(context)
        return pb.ListAccessResponse(**self.fields)

    def ExchangeToken(  # noqa: N802
        self, request: pb.ExchangeTokenRequest, context: grpc.ServicerContext
    ) -> pb.ExchangeTokenResponse:
        self.behaviour(context)
        return pb.ExchangeTokenResponse(**self.fields)

    def RevokeToken(self, _: pb.RevokeTokenRequest, context: grpc.ServicerContext) -> pb.RevokeTokenResponse:  # noqa: N802
        self.behaviour(context)
        return pb.RevokeTokenResponse(**self.fields)

    def IntrospectToken(  # noqa: N802
        self, _: pb.IntrospectTokenRequest, context: grpc.ServicerContext
    ) -> pb.IntrospectTokenResponse:
        self.behaviour(context)
        return pb.IntrospectTokenResponse(**self.fields)

    def WatchRevocations(  # noqa: N802
        self, _: pb.WatchRevocationsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchRevocationsResponse]:
        self.behaviour(context)
        yield pb.WatchRevocationsResponse(**self.fields)

    def GetKeySet(self, _: pb.GetKeySetRequest, context: grpc.ServicerContext) -> pb.GetKeySetResponse:  # noqa: N802
        self.behaviour(context)
        return pb.GetKeySetResponse(jwks=self.fields.get("jwks", "{}"))


def token_of(claims: dict[str, Any]) -> str:
    parts = ({"alg": "ES256", "typ": "at+jwt"}, claims)
    head = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
    return f"{head}.c2lnbmF0dXJl"


@dataclass(frozen=True)
class World:
    """A trust domain, a workload in it, and a server that its client is pointed to."""

    authority: Authority
    api: WorkloadApiServer

    @contextmanager
    def client(self, svid: IssuedSvid, liar: Liar, **options: Any) -> Iterator[SyncIssuerClient]:
        """Serve with this certificate, and return a client of that server."""
        server = grpc.server(ThreadPoolExecutor(4))
        pb_grpc.add_IssuerServiceServicer_to_server(liar, server)
        credentials = grpc.ssl_server_credentials(
            [(svid.key_pem(), svid.chain_pem())], pem_bundle([self.authority.root]), require_client_auth=True
        )
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        try:
            with SyncIssuerClient(f"127.0.0.1:{port}", workload_api=self.api.socket, **options) as client:
                yield client
        finally:
            server.stop(None).wait()

    def issuer_svid(self, **changes: Any) -> IssuedSvid:
        return self.authority.issue(ISSUER, **({"dns_names": (ISSUER_DNS_NAME,)} | changes))
