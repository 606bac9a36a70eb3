from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from agent_client.verification import (
    ApplicationRejected,
    InsufficientScope,
    KeysUnavailable,
    RejectionReason,
    RevocationsUnavailable,
    TokenRejected,
    VerificationError,
    VerificationUnavailable,
)
from agent_client.verification.grpc_answers import REASONS, grpc_answer
from agent_client.verification.request_errors import (
    AuthorizationMalformed,
    MethodNotListed,
    StepUpNeeded,
    TokenMissing,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


def every(kind: type[VerificationError]) -> Iterator[type[VerificationError]]:
    for below in kind.__subclasses__():
        yield below
        yield from every(below)


def test_every_error_has_a_status_and_a_reason_of_its_own() -> None:
    assert set(REASONS) == set(every(VerificationError)) - {VerificationUnavailable}
    assert len({reason for _, reason in REASONS.values()}) == len(REASONS)


@pytest.mark.parametrize(
    ("error", "code", "reason", "metadata"),
    [
        (TokenMissing(), grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING", {}),
        (AuthorizationMalformed("x"), grpc.StatusCode.UNAUTHENTICATED, "AUTHORIZATION_MALFORMED", {}),
        (TokenRejected(RejectionReason.EXPIRED), grpc.StatusCode.UNAUTHENTICATED, "TOKEN_REJECTED", {}),
        (
            InsufficientScope(("a", "b")),
            grpc.StatusCode.PERMISSION_DENIED,
            "SCOPE_INSUFFICIENT",
            {"scopes": "a b"},
        ),
        (ApplicationRejected(), grpc.StatusCode.PERMISSION_DENIED, "APPLICATION_REJECTED", {}),
        (MethodNotListed(), grpc.StatusCode.PERMISSION_DENIED, "METHOD_NOT_LISTED", {}),
        (
            StepUpNeeded(["gold", "silver"], timedelta(minutes=1)),
            grpc.StatusCode.FAILED_PRECONDITION,
            "STEP_UP_NEEDED",
            {"acrValues": "gold silver", "maxAge": "60"},
        ),
        (
            StepUpNeeded(max_age=timedelta(0)),
            grpc.StatusCode.FAILED_PRECONDITION,
            "STEP_UP_NEEDED",
            {"maxAge": "0"},
        ),
        (KeysUnavailable("10.9.8.7 is not there"), grpc.StatusCode.UNAVAILABLE, "KEYS_UNAVAILABLE", {}),
        (RevocationsUnavailable("10.9.8.7"), grpc.StatusCode.UNAVAILABLE, "REVOCATIONS_UNAVAILABLE", {}),
    ],
)
def test_each_refusal_has_its_status(
    error: VerificationError, code: grpc.StatusCode, reason: str, metadata: dict[str, str]
) -> None:
    answer = grpc_answer(error)
    status = Status.FromString(dict(answer.trailers)["grpc-status-details-bin"])
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (answer.code, status.code) == (code, code.value[0])
    assert (info.domain, info.reason, dict(info.metadata)) == ("spiffe-issuer", reason, metadata)
    assert status.message == answer.details
    assert "10.9.8.7" not in answer.details, "the message is for our log"


@pytest.mark.parametrize(("wait", "seconds"), [(None, 5), (timedelta(seconds=2), 2)])
def test_without_keys_the_caller_is_told_when_to_come_back(wait: timedelta | None, seconds: int) -> None:
    answer = grpc_answer(KeysUnavailable("x", retry_after=wait))
    retry = RetryInfo()
    assert Status.FromString(answer.trailers[0][1]).details[1].Unpack(retry)
    assert retry.retry_delay.seconds == seconds
