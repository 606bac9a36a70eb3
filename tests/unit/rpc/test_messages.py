from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration

from issuer.core.errors import InvalidTokenRequest
from issuer.rpc.messages import MAX_BATCH_ITEMS, batch_items, token_request_from_proto
from issuer_api.v1 import issuer_service_pb2 as pb


def message(**fields: object) -> pb.IssueTokenRequest:
    return pb.IssueTokenRequest(**{"audience": "https://a.example", "scopes": ["s"], **fields})  # type: ignore[arg-type]


def test_parses_every_field() -> None:
    request = token_request_from_proto(
        message(
            ttl=Duration(seconds=90, nanos=500_000_000),
            application="payments",
            proof_binding=pb.PROOF_BINDING_TLS_CERTIFICATE,
            allow_partial=True,
        )
    )
    assert request.ttl == timedelta(seconds=90.5)
    assert (request.application, request.bind_certificate, request.allow_partial) == ("payments", True, True)


def test_absent_fields_leave_the_choice_to_policy() -> None:
    request = token_request_from_proto(message())
    assert (request.ttl, request.application, request.bind_certificate) == (None, None, False)


@pytest.mark.parametrize(
    ("fields", "violated"),
    [
        ({"audience": ""}, ["audience"]),
        ({"scopes": []}, ["scopes"]),
        ({"ttl": Duration()}, ["ttl"]),
        ({"ttl": Duration(seconds=-1)}, ["ttl"]),
        ({"ttl": Duration(seconds=2**62)}, ["ttl"]),
        ({"ttl": Duration(seconds=1, nanos=-1)}, ["ttl"]),
        ({"ttl": Duration(seconds=1, nanos=2_000_000_000)}, ["ttl"]),
        ({"application": "no spaces"}, ["application"]),
        ({"proof_binding": pb.PROOF_BINDING_UNSPECIFIED}, ["proof_binding"]),
        ({"proof_binding": 77}, ["proof_binding"]),
        ({"audience": "", "proof_binding": 77}, ["audience", "proof_binding"]),
    ],
)
def test_names_the_field_at_fault(fields: dict[str, object], violated: list[str]) -> None:
    with pytest.raises(InvalidTokenRequest) as refused:
        token_request_from_proto(message(**fields))
    assert [violation.field for violation in refused.value.violations] == violated


@pytest.mark.parametrize("count", [0, MAX_BATCH_ITEMS + 1])
def test_refuses_a_batch_outside_its_bounds(count: int) -> None:
    with pytest.raises(InvalidTokenRequest) as refused:
        batch_items(pb.BatchIssueTokensRequest(requests=[message()] * count))
    assert refused.value.violations[0].field == "requests"


@pytest.mark.parametrize("count", [1, MAX_BATCH_ITEMS])
def test_accepts_a_batch_at_its_bounds(count: int) -> None:
    assert len(list(batch_items(pb.BatchIssueTokensRequest(requests=[message()] * count)))) == count
