from __future__ import annotations

from datetime import timedelta

import pytest

from agent_client.errors import InvalidTokenRequest
from agent_client.requests import TokenRequest, token_request_to_proto
from issuer_api.v1 import issuer_service_pb2 as pb


def test_the_plain_request_leaves_out_what_was_not_asked() -> None:
    message = token_request_to_proto(TokenRequest("https://a.test", ["read"]))
    assert message == pb.IssueTokenRequest(audience="https://a.test", scopes=["read"])
    assert not message.HasField("ttl")
    assert not message.HasField("proof_binding")


def test_everything_that_was_asked_is_in_the_message() -> None:
    request = TokenRequest("a", ("r", "w"), timedelta(minutes=5, microseconds=7), "app", True, True, True)  # noqa: FBT003
    message = token_request_to_proto(request)
    assert list(message.scopes) == ["r", "w"]
    assert (message.ttl.seconds, message.ttl.nanos) == (300, 7000)
    assert message.proof_binding == pb.PROOF_BINDING_TLS_CERTIFICATE
    assert (message.application, message.allow_partial, message.validate_only) == ("app", True, True)


@pytest.mark.parametrize("ttl", [timedelta(0), timedelta(seconds=-1), timedelta.max, timedelta.min])
def test_a_senseless_ttl_is_sent_for_the_issuer_to_name(ttl: timedelta) -> None:
    message = token_request_to_proto(TokenRequest("a", ["r"], ttl))
    assert message.HasField("ttl")
    assert timedelta(seconds=message.ttl.seconds, microseconds=message.ttl.nanos // 1000) == ttl


def test_one_string_is_not_taken_for_a_list_of_scopes() -> None:
    with pytest.raises(TypeError, match=r"\['ledger.read'\]"):
        TokenRequest("a", "ledger.read")


def test_a_bare_number_is_not_taken_for_a_ttl() -> None:
    with pytest.raises(TypeError, match=r"timedelta\(seconds=60\)"):
        TokenRequest("a", ["r"], 60)  # type: ignore[arg-type]


def test_scopes_are_kept_as_they_were() -> None:
    scopes = ["read"]
    request = TokenRequest("a", scopes)
    scopes.append("write")
    assert request.scopes == ("read",)


def test_text_that_cannot_be_sent_is_a_malformed_request() -> None:
    with pytest.raises(InvalidTokenRequest, match="no Unicode"):
        token_request_to_proto(TokenRequest("a\udc80", ["r"]))
