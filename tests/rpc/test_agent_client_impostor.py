"""The client before a server that is not the issuer, or answers what was not asked: a real gRPC server, made to lie."""

from __future__ import annotations

import base64
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from google.rpc.error_details_pb2 import RetryInfo

from agent_client import (
    ISSUER_DNS_NAME,
    AccessDenied,
    AnswerRejected,
    ClientClosed,
    Intent,
    IssuerFault,
    IssuerNotTrusted,
    IssuerRequestError,
    IssuerTimedOut,
    IssuerUnavailable,
    LimitExceeded,
    SyncIssuerClient,
    TokenRequest,
    exchanges,
)
from issuer_api.v1 import issuer_service_pb2 as pb
from issuer_api.v1 import issuer_service_pb2_grpc as pb_grpc
from issuer_testing.spire.authority import Authority, pem_bundle, utc_now
from issuer_testing.spire.workload_api import Answer, WorkloadApiServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from issuer_testing.spire.authority import IssuedSvid

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


@pytest.fixture
def world() -> Iterator[World]:
    authority = Authority("dev.test")
    with WorkloadApiServer(Answer.of(authority, authority.issue(WORKLOAD))) as api:
        yield World(authority, api)


def error_of(world: World, liar: Liar, **options: Any) -> IssuerRequestError:
    with world.client(world.issuer_svid(), liar, **options) as client, pytest.raises(IssuerRequestError) as error:
        client.issue_token(API, ["read"], ttl=timedelta(seconds=60))
    return error.value


def aborts(code: grpc.StatusCode, *details: Any) -> Callable[[grpc.ServicerContext], None]:
    def abort(context: grpc.ServicerContext) -> None:
        status = status_pb2.Status(code=code.value[0], message="said the server")
        for detail in details:
            status.details.add().Pack(detail)
        context.set_trailing_metadata([("grpc-status-details-bin", status.SerializeToString())])
        context.abort(code, "said the server")

    return abort


def test_the_honest_answer_is_taken(world: World) -> None:
    with world.client(world.issuer_svid(), Liar()) as client:
        assert client.issue_token(API, ["read"]).token_id == "one"


@pytest.mark.parametrize(
    ("spiffe_id", "changes"),
    [
        (ISSUER, {"dns_names": ()}),
        (ISSUER, {"dns_names": ("api.workload.internal",)}),
        ("spiffe://dev.test/another", {"dns_names": (f"x.{ISSUER_DNS_NAME}",)}),
        (ISSUER, {"dns_names": (ISSUER_DNS_NAME,), "not_after": utc_now() - timedelta(seconds=1)}),
    ],
    ids=["no name", "another name", "a name below", "expired"],
)
def test_a_server_of_the_trust_domain_that_is_not_the_issuer_is_refused(
    world: World, spiffe_id: str, changes: dict[str, Any]
) -> None:
    liar = Liar()
    with (
        world.client(world.authority.issue(spiffe_id, **changes), liar) as client,
        pytest.raises(IssuerNotTrusted) as error,
    ):
        client.issue_token(API, ["read"])
    assert liar.calls == 0
    assert error.value.remedy


@pytest.mark.parametrize(
    "changes",
    [
        {"dns_names": ("*.workload.internal",)},
        {"subject": x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER_DNS_NAME)])},
    ],
    ids=["a wildcard above it", "a common name without a DNS name"],
)
def test_what_else_passes_for_the_issuers_name(world: World, changes: dict[str, Any]) -> None:
    """Not wanted, and gRPC's: whoever issues certificates must know. If this fails, gRPC became stricter; see
    docs/THREAT_MODEL.md."""
    with world.client(world.authority.issue("spiffe://dev.test/another", **changes), Liar()) as client:
        assert client.issue_token(API, ["read"])


@pytest.mark.parametrize("federated", [False, True], ids=["unknown", "federated"])
def test_a_server_with_the_issuers_name_from_another_trust_domain_is_refused(world: World, *, federated: bool) -> None:
    """The attack that one flat pool of roots lets through: the workload knows the other domain, and trusts it for
    other things."""
    other = Authority("other.test")
    if federated:
        world.api.change(federated={"other.test": (other.root,)})
    svid = other.issue("spiffe://dev.test/spiffe-issuer", dns_names=(ISSUER_DNS_NAME,))
    liar = Liar()
    with world.client(svid, liar) as client, pytest.raises(IssuerNotTrusted):
        client.issue_token(API, ["read"])
    assert liar.calls == 0


@pytest.mark.parametrize(
    ("claims", "fault"),
    [
        ({"aud": "https://other.test"}, "another audience"),
        ({"aud": [API]}, "another audience"),
        ({"sub": "spiffe://dev.test/other"}, "another workload"),
        ({"client_id": "spiffe://dev.test/other"}, "another workload"),
        ({"scope": "read write"}, "other scopes"),
        ({"exp": 1}, "expires at another time"),
        ({"jti": "two"}, "another identifier"),
        ({"application": "payroll"}, "another application"),
        ({"iat": 1}, "longer than asked"),
        ({"cnf": {"x5t#S256": "AAAA"}}, "another certificate"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_token_that_was_not_asked_for_is_not_handed_out(world: World, claims: dict[str, Any], fault: str) -> None:
    error = error_of(world, Liar(claims=claims))
    assert isinstance(error, AnswerRejected)
    assert fault in str(error)
    assert error.decision_id == "decision"


def test_a_batch_with_too_few_answers_is_not_matched_up(world: World) -> None:
    with world.client(world.issuer_svid(), Liar()) as client, pytest.raises(AnswerRejected, match="1 of 2"):
        client.issue_tokens([TokenRequest(API, ["read"]), TokenRequest(API, ["write"])])


def test_an_item_of_a_batch_that_does_not_fit_is_an_error_of_its_own(world: World) -> None:
    with world.client(world.issuer_svid(), Liar(claims={"sub": "other"})) as client:
        (result,) = client.issue_tokens([TokenRequest(API, ["read"])])
    assert isinstance(result, AnswerRejected)


@pytest.mark.parametrize("jwks", ["", "[]", "{}", '{"keys": 1}'])
def test_keys_that_are_no_key_set_are_refused(world: World, jwks: str) -> None:
    with world.client(world.issuer_svid(), Liar(fields={"jwks": jwks})) as client, pytest.raises(AnswerRejected):
        client.get_key_set()


def test_a_lifetime_that_cannot_be_read_is_refused(world: World) -> None:
    scope = pb.AccessScope(name="read", max_ttl=Duration(seconds=2**62))
    fields = {"accesses": [pb.Access(audience=API, scopes=[scope])]}
    with world.client(world.issuer_svid(), Liar(fields=fields)) as client, pytest.raises(AnswerRejected):
        client.list_access()


def test_only_an_unavailable_issuer_is_asked_again(world: World) -> None:
    def fails_twice(context: grpc.ServicerContext) -> None:
        if unavailable.calls < 3:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")

    unavailable = Liar(behaviour=fails_twice)
    with world.client(world.issuer_svid(), unavailable) as client:
        client.issue_token(API, ["read"])
    assert unavailable.calls == 3


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, AccessDenied),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, LimitExceeded),
        (grpc.StatusCode.INTERNAL, IssuerFault),
        (grpc.StatusCode.UNKNOWN, IssuerFault),
        (grpc.StatusCode.ABORTED, IssuerFault),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_nothing_else_is_asked_again(world: World, code: grpc.StatusCode, error: type[IssuerRequestError]) -> None:
    liar = Liar(behaviour=aborts(code))
    raised = error_of(world, liar)
    assert type(raised) is error
    assert raised.message == "said the server"
    assert liar.calls == 1


def test_a_limit_is_waited_for_as_long_as_the_issuer_says(world: World) -> None:
    def is_full_once(context: grpc.ServicerContext) -> None:
        if limited.calls < 2:
            aborts(grpc.StatusCode.RESOURCE_EXHAUSTED, RetryInfo(retry_delay=Duration(nanos=300_000_000)))(context)

    limited = Liar(behaviour=is_full_once)
    started = time.monotonic()
    with world.client(world.issuer_svid(), limited) as client:
        client.issue_token(API, ["read"])
    assert time.monotonic() - started >= 0.3
    assert limited.calls == 2


def test_a_limit_that_outlasts_the_deadline_is_told_at_once(world: World) -> None:
    limited = Liar(behaviour=aborts(grpc.StatusCode.RESOURCE_EXHAUSTED, RetryInfo(retry_delay=Duration(seconds=60))))
    started = time.monotonic()
    error = error_of(world, limited, timeout=20)
    assert time.monotonic() - started < 10
    assert (type(error), error.retry_after, limited.calls) == (LimitExceeded, timedelta(seconds=60), 1)


def test_the_intent_reaches_the_issuer(world: World) -> None:
    liar = Liar()
    with world.client(world.issuer_svid(), liar) as client:
        client.issue_token(API, ["read"], intent=Intent(ticket="CHG-1"))
    assert liar.seen[0].intent == pb.Intent(ticket="CHG-1")


def test_an_issuer_that_stays_unavailable_is_given_up_at_the_deadline(world: World) -> None:
    info = error_details_pb2.ErrorInfo(
        reason="SIGNER_UNAVAILABLE", domain="spiffe-issuer", metadata={"requestId": "r-1"}
    )
    liar = Liar(behaviour=aborts(grpc.StatusCode.UNAVAILABLE, info))
    started = time.monotonic()
    error = error_of(world, liar, timeout=1)
    assert time.monotonic() - started < 4
    assert type(error) is IssuerUnavailable
    assert (error.reason, error.request_id) == ("SIGNER_UNAVAILABLE", "r-1")
    assert liar.calls > 3


def test_an_issuer_that_does_not_answer_times_out_once(world: World) -> None:
    def waits_for_the_caller_to_give_up(context: grpc.ServicerContext) -> None:
        while context.is_active():
            time.sleep(0.02)

    liar = Liar(behaviour=waits_for_the_caller_to_give_up)
    error = error_of(world, liar, timeout=0.5)
    assert type(error) is IssuerTimedOut
    assert liar.calls == 1


def test_closing_ends_a_call_that_waits_for_its_answer(world: World) -> None:
    arrived = threading.Event()

    def waits_for_the_caller_to_go(context: grpc.ServicerContext) -> None:
        arrived.set()
        while context.is_active():
            time.sleep(0.02)

    liar = Liar(behaviour=waits_for_the_caller_to_go)
    with world.client(world.issuer_svid(), liar, timeout=60) as client, ThreadPoolExecutor() as pool:
        call = pool.submit(client.issue_token, API, ["read"])
        assert arrived.wait(20)
        client.close()
        with pytest.raises(ClientClosed):
            call.result(timeout=20)


def test_a_channel_that_was_closed_before_its_call_began_is_a_closed_client(world: World) -> None:
    with world.client(world.issuer_svid(), Liar()) as client:
        client.issue_token(API, ["read"])
        channel = client._core.channels.lease(client._core.material(utc_now())).channel
        client.close()
        with pytest.raises(ClientClosed):
            client._send(channel, exchanges.get_key_set(), time.monotonic() + 10)


def test_the_deadline_reaches_the_issuer(world: World) -> None:
    left: list[float] = []
    liar = Liar(behaviour=lambda context: left.append(context.time_remaining()))
    with world.client(world.issuer_svid(), liar) as client:
        client.issue_token(API, ["read"], timeout=3)
    assert 0 < left[0] <= 3
