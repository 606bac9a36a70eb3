from __future__ import annotations

import base64
import dataclasses
import json
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.status_pb2 import Status

from agent_client.answers import accesses, batch_results, issued_token, key_set
from agent_client.errors import AnswerRejected, IssuerFault
from agent_client.requests import TokenRequest
from agent_client.token_checks import CallerIdentity
from issuer_api.v1 import issuer_service_pb2 as pb

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
CALLER = CallerIdentity("spiffe://prod.example/settler", bytes(32))
VALIDATION = TokenRequest("https://a.test", ["read", "write"], allow_partial=True, validate_only=True)


def validated(expire_seconds: int = 60, renew_seconds: int = 30) -> pb.IssueTokenResponse:
    start = int(NOW.timestamp())
    return pb.IssueTokenResponse(
        token_type="Bearer",
        scopes=["read"],
        refused_scopes=["write"],
        decision_id="decision",
        application="payments",
        expire_time=Timestamp(seconds=start + expire_seconds),
        renew_time=Timestamp(seconds=start + renew_seconds),
    )


def test_times_are_aware_and_lists_are_tuples() -> None:
    issued = issued_token(validated(), VALIDATION, CALLER, NOW)
    assert issued.expires_at == NOW + timedelta(seconds=60)
    assert issued.renew_at == NOW + timedelta(seconds=30)
    assert (issued.scopes, issued.refused_scopes) == (("read",), ("write",))
    assert (issued.application, issued.decision_id, issued.token_type) == ("payments", "decision", "Bearer")


def test_a_lifetime_is_counted_by_the_issuers_clock() -> None:
    """Whatever this host's clock says of it."""
    start = int(NOW.timestamp())
    claims = {"aud": "a", "sub": CALLER.spiffe_id, "client_id": CALLER.spiffe_id, "scope": "read", "jti": "id"}
    parts = ({"alg": "ES256", "typ": "at+jwt"}, claims | {"iat": start, "exp": start + 60})
    encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
    end = Timestamp(seconds=start + 60)
    answer = pb.IssueTokenResponse(
        token=".".join([*encoded, "c2ln"]), scopes=["read"], token_id="id", expire_time=end, renew_time=end
    )
    for clock in (NOW - timedelta(minutes=10), NOW + timedelta(seconds=50)):
        issued = issued_token(answer, TokenRequest("a", ["read"]), CALLER, clock)
        assert (issued.issued_at, issued.expires_at - issued.issued_at) == (NOW, timedelta(seconds=60))


def test_a_validation_begins_when_it_arrives() -> None:
    assert issued_token(validated(), VALIDATION, CALLER, NOW).issued_at == NOW


def test_an_answer_as_a_dictionary_shows_no_token() -> None:
    issued = issued_token(validated(), VALIDATION, CALLER, NOW)
    assert str(dataclasses.asdict(issued)["token"]) == "AccessToken()"


@pytest.mark.parametrize(("renew", "fine"), [(60, True), (61, False)])
def test_renewal_is_not_after_the_end(renew: int, fine: bool) -> None:  # noqa: FBT001
    if fine:
        assert issued_token(validated(60, renew), VALIDATION, CALLER, NOW).renew_at
    else:
        with pytest.raises(AnswerRejected, match="renewal"):
            issued_token(validated(60, renew), VALIDATION, CALLER, NOW)


def test_a_time_that_no_calendar_has_is_refused() -> None:
    with pytest.raises(AnswerRejected, match="cannot be read") as error:
        issued_token(validated(2**61), VALIDATION, CALLER, NOW)
    assert error.value.remedy


def test_results_of_a_batch_stand_in_the_order_of_its_requests() -> None:
    message = pb.BatchIssueTokensResponse(
        results=[
            pb.BatchIssueTokensResult(error=Status(code=13, message="failed")),
            pb.BatchIssueTokensResult(response=validated()),
            pb.BatchIssueTokensResult(),
        ]
    )
    failed, issued, empty = batch_results(message, [VALIDATION] * 3, CALLER, NOW)
    assert isinstance(failed, IssuerFault)
    assert not isinstance(issued, Exception)
    assert isinstance(empty, AnswerRejected)


def test_access_is_read_with_all_it_says() -> None:
    scope = pb.AccessScope(name="read", risk="low", max_ttl=Duration(seconds=90), binding_required=True)
    until = pb.AccessScope(name="write", expire_time=Timestamp(seconds=int(NOW.timestamp())))
    (access,) = accesses(pb.ListAccessResponse(accesses=[pb.Access(audience="a", scopes=[scope, until])]))
    assert (access.audience, access.application) == ("a", None)
    assert (access.scopes[0].max_ttl, access.scopes[0].binding_required) == (timedelta(seconds=90), True)
    assert [scope.expires_at for scope in access.scopes] == [None, NOW]


def test_keys_are_a_key_set() -> None:
    keys = key_set(pb.GetKeySetResponse(jwks='{"keys": [{"kid": "1"}]}', max_age=Duration(seconds=300)))
    assert keys.jwks["keys"] == [{"kid": "1"}]
    assert keys.max_age == timedelta(minutes=5)
