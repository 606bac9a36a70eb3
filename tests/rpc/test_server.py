"""The server as its callers and its operator meet it."""

from __future__ import annotations

import json
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import httpx
import jwt
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from support.deployment import DEADLINE, LEDGER, READER, REQUEST, SETTLER, Deployment, info_of, reason_of

from issuer.rpc.rpc_rules import RPC_RULES
from issuer_api.v1 import access_service_pb2 as access_pb
from issuer_api.v1 import admin_service_pb2 as admin_pb
from issuer_api.v1 import approval_service_pb2 as approval_pb
from issuer_api.v1 import intent_service_pb2 as intent_pb
from issuer_api.v1 import issuer_service_pb2 as pb
from issuer_testing.issuer_process import IssuerDidNotStart, IssuerProcess

if TYPE_CHECKING:
    from pathlib import Path

ISSUER_SERVICE = "issuer_api.v1.IssuerService"
ADMIN_SERVICE = "issuer_api.v1.AdminService"
ACCESS_SERVICE = access_pb.DESCRIPTOR.services_by_name["AccessService"].full_name
INTENT_SERVICE = intent_pb.DESCRIPTOR.services_by_name["IntentService"].full_name
APPROVAL_SERVICE = approval_pb.DESCRIPTOR.services_by_name["ApprovalService"].full_name


def refused(deployment: Deployment, request: pb.IssueTokenRequest, spiffe_id: str = SETTLER) -> grpc.RpcError:
    with deployment.stub(deployment.svid(spiffe_id)) as stub, pytest.raises(grpc.RpcError) as error:
        stub.IssueToken(request, timeout=DEADLINE)
    return error.value


def claims_of(deployment: Deployment, token: str) -> dict[str, object]:
    metadata = httpx.get(f"{deployment.issuer.url}/.well-known/oauth-authorization-server").json()
    key = jwt.PyJWKClient(metadata["jwks_uri"]).get_signing_key_from_jwt(token)
    claims: dict[str, object] = jwt.decode(token, key, ["ES256"], audience=LEDGER, issuer=deployment.issuer.url)
    return claims


def test_a_workload_gets_a_token_that_verifies_from_the_metadata_alone(deployment: Deployment) -> None:
    with deployment.stub() as stub:
        answer = stub.IssueToken(REQUEST, timeout=DEADLINE)
    claims = claims_of(deployment, answer.token)
    assert (claims["sub"], claims["client_id"], claims["aud"]) == (SETTLER, SETTLER, LEDGER)
    assert (claims["scope"], claims["application"], claims["dev"]) == ("ledger.read", "payments", True)
    assert claims["jti"] == answer.token_id
    assert claims["exp"] == answer.expire_time.seconds
    assert answer.token_type == "Bearer"
    assert int(str(claims["iat"])) < answer.renew_time.seconds < answer.expire_time.seconds


def test_a_token_is_bound_to_the_certificate_when_asked_for(deployment: Deployment) -> None:
    request = pb.IssueTokenRequest(
        audience=LEDGER, scopes=["ledger.read"], proof_binding=pb.PROOF_BINDING_TLS_CERTIFICATE
    )
    with deployment.stub() as stub:
        answer = stub.IssueToken(request, timeout=DEADLINE)
    assert set(claims_of(deployment, answer.token)["cnf"]) == {"x5t#S256"}  # type: ignore[call-overload]


def test_a_denial_carries_its_reason_the_decision_and_the_scope(deployment: Deployment) -> None:
    error = refused(deployment, pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.read", "ledger.refund"]))
    info = info_of(error)
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert (info.reason, info.metadata["scopes"]) == ("SCOPE_NOT_ALLOWED", "ledger.refund")
    assert deployment.issuer.wait_for("rpc", decision_id=info.metadata["decisionId"])["reason"] == "SCOPE_NOT_ALLOWED"


def test_an_unknown_audience_and_one_that_is_not_allowed_look_the_same(deployment: Deployment) -> None:
    unknown = refused(deployment, pb.IssueTokenRequest(audience="https://nowhere.test", scopes=["ledger.read"]))
    not_allowed = refused(deployment, REQUEST, READER)
    assert reason_of(unknown) == reason_of(not_allowed) == "AUDIENCE_NOT_ALLOWED"
    assert unknown.details() == not_allowed.details()


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.IssueTokenRequest(scopes=["ledger.read"]), "audience"),
        (pb.IssueTokenRequest(audience=LEDGER), "scopes"),
        (pb.IssueTokenRequest(audience=LEDGER, scopes=["a", "a"]), "scopes[1]"),
        (pb.IssueTokenRequest(audience=LEDGER, scopes=["a"], ttl=Duration(seconds=-1)), "ttl"),
        (pb.IssueTokenRequest(audience=LEDGER, scopes=["a"], application="a b"), "application"),
        (pb.IssueTokenRequest(audience=LEDGER, scopes=["a"], proof_binding=9), "proof_binding"),  # type: ignore[arg-type]
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_malformed_request_is_told_its_field(
    deployment: Deployment, request_: pb.IssueTokenRequest, field: str
) -> None:
    error = refused(deployment, request_)
    details = error_details_pb2.BadRequest()
    status = rpc_status.from_call(error)
    assert status is not None
    assert any(detail.Unpack(details) for detail in status.details)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in details.field_violations] == [field]


def test_a_batch_answers_each_item_for_itself_and_in_order(deployment: Deployment) -> None:
    items = [
        REQUEST,
        pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.refund"]),
        pb.IssueTokenRequest(audience=LEDGER),
    ]
    with deployment.stub() as stub:
        answer = stub.BatchIssueTokens(pb.BatchIssueTokensRequest(requests=items * 40), timeout=DEADLINE)
    assert len(answer.results) == 120
    issued = [result.response for result in answer.results[::3]]
    assert [claims_of(deployment, each.token)["jti"] for each in issued] == [each.token_id for each in issued]
    assert len({each.token_id for each in issued}) == 40
    assert {result.error.code for result in answer.results[1::3]} == {grpc.StatusCode.PERMISSION_DENIED.value[0]}
    assert {result.error.code for result in answer.results[2::3]} == {grpc.StatusCode.INVALID_ARGUMENT.value[0]}


def test_validate_only_decides_and_issues_nothing(deployment: Deployment) -> None:
    with deployment.stub() as stub:
        answer = stub.IssueToken(
            pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.read"], validate_only=True), timeout=DEADLINE
        )
    assert (answer.token, answer.token_id) == ("", "")
    assert list(answer.scopes) == ["ledger.read"]


def test_a_partial_answer_names_what_it_left_out(deployment: Deployment) -> None:
    request = pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.refund", "ledger.read"], allow_partial=True)
    with deployment.stub() as stub:
        answer = stub.IssueToken(request, timeout=DEADLINE)
    assert (list(answer.scopes), list(answer.refused_scopes)) == (["ledger.read"], ["ledger.refund"])


def test_list_access_tells_what_may_be_asked_for(deployment: Deployment) -> None:
    with deployment.stub() as stub:
        (access,) = stub.ListAccess(pb.ListAccessRequest(), timeout=DEADLINE).accesses
    with deployment.stub(deployment.svid(READER)) as stub:
        assert not stub.ListAccess(pb.ListAccessRequest(), timeout=DEADLINE).accesses
    assert (access.audience, access.application) == (LEDGER, "payments")
    assert [(scope.name, scope.risk) for scope in access.scopes] == [("ledger.read", "low"), ("ledger.write", "high")]


def test_the_key_set_is_the_same_by_grpc_and_by_http(deployment: Deployment) -> None:
    with deployment.stub() as stub:
        by_grpc = stub.GetKeySet(pb.GetKeySetRequest(), timeout=DEADLINE)
    assert json.loads(by_grpc.jwks) == httpx.get(f"{deployment.issuer.url}/.well-known/jwks.json").json()
    assert by_grpc.max_age.seconds == 300


def test_every_rpc_that_reflection_shows_has_a_rule_and_no_rule_is_stale(deployment: Deployment) -> None:
    with deployment.channel(deployment.svid()) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        listing = next(stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")])))
    services = {service.name for service in listing.list_services_response.service}
    pool = admin_pb.DESCRIPTOR.pool
    shown = {
        f"{name}/{method.name}"
        for name in services - {"grpc.reflection.v1alpha.ServerReflection"}
        for method in pool.FindServiceByName(name).methods
    }
    ruled = {rpc for rpc in RPC_RULES if not rpc.startswith("grpc.reflection.")}
    assert shown == ruled
    assert services == {
        ISSUER_SERVICE,
        ADMIN_SERVICE,
        APPROVAL_SERVICE,
        ACCESS_SERVICE,
        INTENT_SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


def test_reflection_answers_under_its_name_of_today(deployment: Deployment) -> None:
    with deployment.channel(deployment.svid()) as channel:
        call = channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        answer = next(call(iter([reflection_pb2.ServerReflectionRequest(file_containing_symbol=ISSUER_SERVICE)])))
    assert answer.file_descriptor_response.file_descriptor_proto


def test_an_rpc_that_does_not_exist_is_refused(deployment: Deployment) -> None:
    with deployment.channel(deployment.svid()) as channel, pytest.raises(grpc.RpcError) as error:
        channel.unary_unary(f"/{ISSUER_SERVICE}/MintAnything")(b"", timeout=DEADLINE)
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_message_over_the_limit_is_refused_before_it_is_parsed(deployment: Deployment) -> None:
    error = refused(deployment, pb.IssueTokenRequest(audience="a" * (3 * 1024 * 1024), scopes=["s"]))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_metadata_over_the_limit_is_refused(deployment: Deployment) -> None:
    with deployment.stub() as stub, pytest.raises(grpc.RpcError) as error:
        stub.IssueToken(REQUEST, timeout=DEADLINE, metadata=[("padding", "a" * 20_000)])
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_no_token_reaches_the_log(deployment: Deployment) -> None:
    with deployment.stub() as stub:
        answer = stub.IssueToken(REQUEST, timeout=DEADLINE)
    line = deployment.issuer.wait_for("rpc", token_id=answer.token_id)
    assert line["caller"] == SETTLER
    assert line["code"] == "OK"
    signature = answer.token.rpartition(".")[2]
    assert signature not in json.dumps(deployment.issuer.log())


def test_health_answers_for_the_server_and_for_each_service(deployment: Deployment) -> None:
    serving = health_pb2.HealthCheckResponse.SERVING
    with deployment.channel(deployment.svid()) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE).status == serving
        statuses = health.List(health_pb2.HealthListRequest(), timeout=DEADLINE).statuses
        with pytest.raises(grpc.RpcError) as error:
            health.Check(health_pb2.HealthCheckRequest(service="unknown"), timeout=DEADLINE)
    assert {name: status.status for name, status in statuses.items()} == {"": serving, ISSUER_SERVICE: serving}
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


def test_health_is_told_to_watchers_and_turns_before_the_server_stops(own_deployment: Deployment) -> None:
    with own_deployment.channel(own_deployment.svid()) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=ISSUER_SERVICE))
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        own_deployment.issuer.signal(signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
    assert own_deployment.issuer.wait() == 0
    # Not the very last line: that of the stream, which was cancelled at the same moment, may come after it.
    assert "stopped" in [line.get("event") for line in own_deployment.issuer.log()]


def test_calls_in_flight_end_when_the_server_is_told_to_stop(own_deployment: Deployment) -> None:
    batch = pb.BatchIssueTokensRequest(requests=[REQUEST] * 256)
    with own_deployment.stub() as stub, ThreadPoolExecutor() as pool:
        stub.IssueToken(REQUEST, timeout=DEADLINE)
        calls = [pool.submit(stub.BatchIssueTokens, batch, timeout=DEADLINE) for _ in range(8)]
        own_deployment.issuer.wait_for("rpc", method=f"{ISSUER_SERVICE}/BatchIssueTokens")
        own_deployment.issuer.signal(signal.SIGTERM)
        answered = 0
        for call in calls:
            error = call.exception()
            # A call that had not arrived yet may be turned away; one that was taken is answered whole.
            if error is None:
                assert all(result.response.token for result in call.result().results)
                answered += 1
            else:
                assert isinstance(error, grpc.RpcError)
                assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert answered >= 1
    assert own_deployment.issuer.wait() == 0


def test_a_policy_edit_takes_effect_on_sighup_and_a_broken_one_does_not(own_deployment: Deployment) -> None:
    good = own_deployment.policy_file.read_text(encoding="utf-8")
    own_deployment.policy_file.write_text(good.replace("grants:", "grantz:"), encoding="utf-8")
    own_deployment.issuer.signal(signal.SIGHUP)
    fault = own_deployment.issuer.wait_for("policy_reload_refused")["error"]
    assert "policy.yaml:" in fault
    assert "did you mean 'grants'?" in fault
    with own_deployment.stub() as stub:
        stub.IssueToken(REQUEST, timeout=DEADLINE)
    own_deployment.policy_file.write_text(good.replace(SETTLER, READER), encoding="utf-8")
    digest = own_deployment.issuer.wait_for("policy_loaded")["digest"]
    own_deployment.issuer.signal(signal.SIGHUP)
    own_deployment.issuer.wait_for("policy_reloaded")
    assert own_deployment.issuer.wait_for("policy_reloaded")["digest"] != digest
    assert reason_of(refused(own_deployment, REQUEST)) == "AUDIENCE_NOT_ALLOWED"


def start_fails(issuer: IssuerProcess, code: int = 1) -> str:
    """Start an issuer that cannot, and return what it told its operator."""
    issuer.spawn()
    with pytest.raises(IssuerDidNotStart) as failed:
        issuer.wait_for("serving")
    assert issuer.wait() == code
    assert "Traceback" not in str(failed.value)
    return str(failed.value)


def test_says_which_address_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        deployment = Deployment(tmp_path, options={"server": {"listen": address}})
        with deployment._stack:
            assert f"cannot listen on {address}" in start_fails(deployment.issuer)


def test_says_that_the_workload_api_gives_it_no_identity(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path, options={"spire": {"startup_timeout": "2s"}})
    with deployment._stack:
        deployment.identity.api.deny()
        assert "registration entry" in start_fails(deployment.issuer)


def test_says_that_there_is_no_workload_api(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path, options={"spire": {"startup_timeout": "1s", "socket": f"unix://{tmp_path}/no"}})
    with deployment._stack:
        assert f"{tmp_path}/no" in start_fails(deployment.issuer)


def test_says_that_nobody_told_it_where_the_workload_api_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPIFFE_ENDPOINT_SOCKET", raising=False)
    deployment = Deployment(tmp_path, options={"spire": {"socket": ""}})
    with deployment._stack:
        assert "set SPIFFE_ENDPOINT_SOCKET" in start_fails(deployment.issuer)


def test_waits_for_a_spire_that_comes_later(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    with deployment._stack:
        deployment.identity.api.stop()
        deployment.issuer.spawn()
        deployment.issuer.wait_for("waiting_for_spire")
        deployment.identity.api.start()
        deployment.issuer.wait_for("readiness", serving=True)
        deployment.issuer.stop()


def test_refuses_a_key_that_others_can_read(own_deployment: Deployment) -> None:
    own_deployment.issuer.stop()
    key = own_deployment.settings.folder / "keys/signing-key.pem"
    key.chmod(0o644)
    assert str(key) in start_fails(IssuerProcess(own_deployment.settings))


def test_refuses_a_truncated_key(own_deployment: Deployment) -> None:
    own_deployment.issuer.stop()
    key = own_deployment.settings.folder / "keys/signing-key.pem"
    key.write_bytes(key.read_bytes()[:60])
    assert str(key) in start_fails(IssuerProcess(own_deployment.settings))


def test_refuses_the_development_authority_unless_told_to_be_insecure(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    with deployment._stack:
        object.__setattr__(deployment.settings, "insecure_dev", False)
        assert "--insecure-dev" in start_fails(deployment.issuer)


def test_the_same_key_is_used_after_a_restart(own_deployment: Deployment) -> None:
    with own_deployment.stub() as stub:
        before = stub.GetKeySet(pb.GetKeySetRequest(), timeout=DEADLINE).jwks
    own_deployment.issuer.stop()
    own_deployment.issuer.start()
    with own_deployment.stub() as stub:
        assert stub.GetKeySet(pb.GetKeySetRequest(), timeout=DEADLINE).jwks == before
