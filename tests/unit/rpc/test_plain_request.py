"""Which messages can be answered from memory, and that they say the same then."""

from __future__ import annotations

import pytest

from issuer.core.token_request import GrantType, TokenRequest
from issuer.issuance import Wanted
from issuer.rpc.messages import MAX_REMEMBERED_BYTES, token_request_from_proto
from issuer.rpc.plain_request import plain_request
from issuer_api.v1 import issuer_service_pb2 as pb

AUDIENCE = "https://ledger.dev.test"


def message(**fields: object) -> bytes:
    usual: dict[str, object] = {"audience": AUDIENCE, "scopes": ["a"]}
    return pb.IssueTokenRequest(**(usual | fields)).SerializeToString()  # type: ignore[arg-type]


def test_a_plain_message_asks_for_what_its_fields_say() -> None:
    wanted = plain_request(message(application="billing", allow_partial=True, validate_only=True))
    request = TokenRequest(AUDIENCE, ("a",), application="billing", allow_partial=True)
    assert wanted == Wanted(request, validate_only=True)
    assert request.grant_type is GrantType.CLIENT_CREDENTIALS


def test_the_same_bytes_give_the_same_object_which_is_that_of_other_readers() -> None:
    first, second = plain_request(message(scopes=["b"])), plain_request(message(scopes=["b"]))
    assert first is not None
    assert first is second
    assert first.request is token_request_from_proto(pb.IssueTokenRequest.FromString(message(scopes=["b"])))


@pytest.mark.parametrize(
    "encoded",
    [
        message(access="accessWindows/x"),
        message(intent=pb.Intent()),
        message(intent=pb.Intent(operation="settle")),
        message(request_approval=True),
        message(scopes=[]),
        message(audience=""),
        message(scopes=["a", "a"]),
        message(scopes=["x" * MAX_REMEMBERED_BYTES]),
        b"",
        b"\xff",
        b"\x0a\xff",
        message() + b"\x0a",
    ],
)
def test_what_is_not_plain_is_read_with_its_call(encoded: bytes) -> None:
    assert plain_request(encoded) is None


@pytest.mark.parametrize(("length", "is_plain"), [(MAX_REMEMBERED_BYTES, True), (MAX_REMEMBERED_BYTES + 1, False)])
def test_as_long_as_is_remembered_is_plain(length: int, is_plain: bool) -> None:  # noqa: FBT001 - of the table
    scopes = ["a" * 100, "b" * 100, "c" * 100, "d" * 100]
    encoded = message(scopes=[*scopes, "e" * (length - len(message(scopes=[*scopes, ""])))])
    assert len(encoded) == length
    assert (plain_request(encoded) is not None) == is_plain
