"""Answers of the OAuth endpoints: their members, and what they never say."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2
from google.rpc.status_pb2 import Status

from issuer.core.errors import RateLimited
from issuer.rpc.oauth_answers import failed, introspected, not_found, refused, revoked
from issuer.rpc.oauth_forms import FormRefused, too_large
from issuer.rpc.status import status_from_error
from issuer_api.v1 import issuer_service_pb2 as pb

TOLD = pb.IntrospectTokenResponse(
    active=True,
    scopes=["a", "b"],
    client_id="spiffe://prod.example/agent",
    subject="spiffe://prod.example/user",
    audience="https://api",
    issuer="https://issuer",
    token_id="t1",
    expire_time=Timestamp(seconds=300),
    issue_time=Timestamp(seconds=100),
    not_before_time=Timestamp(seconds=95),
    token_type="Bearer",
)


def test_a_delegated_token_is_told_with_all_that_it_says() -> None:
    told = pb.IntrospectTokenResponse()
    told.CopyFrom(TOLD)
    told.MergeFrom(
        pb.IntrospectTokenResponse(
            certificate_thumbprint="x" * 43,
            actors=[pb.IntrospectedActor(subject="s1", issuer="i1"), pb.IntrospectedActor(subject="s2", issuer="i2")],
            authorization_details='[{"type":"transfer"}]',
            transaction="tx",
            grant_id="g",
            application="payments",
        )
    )
    members = json.loads(introspected(told).body)
    assert members["act"] == {"sub": "s1", "iss": "i1", "act": {"sub": "s2", "iss": "i2"}}
    assert members["cnf"] == {"x5t#S256": "x" * 43}
    assert members["authorization_details"] == [{"type": "transfer"}]
    assert (members["txn"], members["grant_id"], members["application"]) == ("tx", "g", "payments")
    assert (members["scope"], members["exp"], members["iat"], members["nbf"]) == ("a b", 300, 100, 95)


def test_what_a_token_does_not_say_is_left_out() -> None:
    assert json.loads(introspected(TOLD).body).keys() == {
        "active", "scope", "client_id", "token_type", "exp", "iat", "nbf", "sub", "aud", "iss", "jti",
    }  # fmt: skip


def test_of_a_token_that_is_not_active_nothing_else_is_told() -> None:
    """Not even when the methods told more."""
    told = pb.IntrospectTokenResponse(active=False, subject="spiffe://prod.example/user", token_id="t1")
    assert json.loads(introspected(told).body) == {"active": False}


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        (code_pb2.INVALID_ARGUMENT, 400, "invalid_request"),
        (code_pb2.UNAUTHENTICATED, 401, "invalid_client"),
        (code_pb2.PERMISSION_DENIED, 403, "access_denied"),
        (code_pb2.UNAVAILABLE, 503, "temporarily_unavailable"),
        (code_pb2.INTERNAL, 500, "server_error"),
        (code_pb2.UNKNOWN, 500, "server_error"),
    ],
)
def test_how_a_call_ended_has_a_status_and_a_code(code: int, status: int, error: str) -> None:
    answer = failed(Status(code=code, message="fixed text"))
    assert (answer.status, json.loads(answer.body)) == (status, {"error": error, "error_description": "fixed text"})


@pytest.mark.parametrize(("wait", "told"), [(0.0, b"1"), (0.2, b"1"), (1.0, b"1"), (1.5, b"2"), (30.0, b"30")])
def test_who_comes_too_often_is_told_when_to_come_back(wait: float, told: bytes) -> None:
    answer = failed(status_from_error(RateLimited("too much", timedelta(seconds=wait)), ""))
    assert (answer.status, dict(answer.headers)[b"retry-after"]) == (429, told)


def test_no_answer_may_be_kept() -> None:
    answers = [introspected(TOLD), revoked(), refused(too_large()), failed(Status(code=code_pb2.INTERNAL)), not_found()]
    for answer in answers:
        headers = dict(answer.headers)
        assert headers[b"cache-control"] == b"no-store"
        assert int(headers[b"content-length"]) == len(answer.body)


def test_a_wrong_method_is_told_the_right_one() -> None:
    assert dict(refused(FormRefused(405, "invalid_request", "x")).headers)[b"allow"] == b"POST"
