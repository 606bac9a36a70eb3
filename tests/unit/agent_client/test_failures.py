from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from agent_client import errors
from agent_client.failures import DETAILS_KEY, ERRORS_BY_REASON, CallStatus, failure_of_call, failure_of_status
from issuer.core.errors import Reason
from issuer.rpc.status import STATUS_CODES

if TYPE_CHECKING:
    from google.protobuf.message import Message

ADDRESS = "issuer.test:443"


def status(code: int, *details: Message, message: str = "said the issuer") -> Status:
    made = Status(code=code, message=message)
    for detail in details:
        made.details.add().Pack(detail)
    return made


def info(reason: str, domain: str = "spiffe-issuer", **metadata: str) -> ErrorInfo:
    return ErrorInfo(reason=reason, domain=domain, metadata=metadata)


def of_call(code: int, *trailers: tuple[str, str | bytes], text: str = "") -> errors.IssuerRequestError:
    return failure_of_call(CallStatus(code, text, trailers), ADDRESS)


def test_every_reason_of_the_issuer_has_an_exception_of_its_status() -> None:
    """A client that knows a reason and one that does not must catch it by the same base class."""
    assert set(ERRORS_BY_REASON) == {reason.value for reason in Reason}
    for reason, code in STATUS_CODES.items():
        by_code = type(failure_of_status(status(code, info("FROM_THE_FUTURE"))))
        assert issubclass(ERRORS_BY_REASON[reason.value], by_code), reason


def test_everything_that_the_issuer_said_is_on_the_error() -> None:
    said = info("SCOPE_NOT_ALLOWED", decisionId="d", requestId="r", scopes="a b")
    error = failure_of_status(status(code_pb2.PERMISSION_DENIED, said))
    assert type(error) is errors.ScopeNotAllowed
    assert (error.message, error.reason) == ("said the issuer", "SCOPE_NOT_ALLOWED")
    assert (error.decision_id, error.request_id, error.scopes) == ("d", "r", ("a", "b"))


def test_an_unknown_reason_is_kept_and_falls_back_to_the_status() -> None:
    error = failure_of_status(status(code_pb2.UNAUTHENTICATED, info("FROM_THE_FUTURE")))
    assert type(error) is errors.NotAuthenticated
    assert error.reason == "FROM_THE_FUTURE"
    assert error.remedy


def test_an_unknown_status_is_a_fault_of_the_issuer() -> None:
    error = failure_of_status(Status(code=99))
    assert type(error) is errors.IssuerFault
    assert "99" in error.message


def test_a_reason_of_another_domain_is_not_the_issuers() -> None:
    error = failure_of_status(status(code_pb2.PERMISSION_DENIED, info("SCOPE_NOT_ALLOWED", domain="proxy.example")))
    assert (type(error), error.reason) == (errors.AccessDenied, None)


def test_fields_of_a_bad_request_are_named() -> None:
    fault = BadRequest(field_violations=[BadRequest.FieldViolation(field="scopes[1]", description="is empty")])
    error = failure_of_status(status(code_pb2.INVALID_ARGUMENT, info("REQUEST_INVALID"), fault))
    assert error.violations == (errors.Violation("scopes[1]", "is empty"),)
    assert "scopes[1] is empty" in str(error)


@pytest.mark.parametrize(
    ("seconds", "nanos", "read"),
    [
        (0, 1000, timedelta(microseconds=1)),
        (3600, 0, timedelta(hours=1)),
        (1, 500_000_000, timedelta(seconds=1.5)),
        (0, 0, None),
        (0, 1, None),
        (3600, 1000, None),
        (3601, 0, None),
        (-1, 0, None),
        (0, -1000, None),
        (2**62, 0, None),
    ],
)
def test_when_to_come_back_is_obeyed_up_to_an_hour(seconds: int, nanos: int, read: timedelta | None) -> None:
    asked = RetryInfo(retry_delay=Duration(seconds=seconds, nanos=nanos))
    for code in (code_pb2.RESOURCE_EXHAUSTED, code_pb2.UNAVAILABLE, code_pb2.FAILED_PRECONDITION):
        assert failure_of_status(status(code, info("FROM_THE_FUTURE"), asked)).retry_after == read


def test_a_detail_that_cannot_be_read_costs_only_itself() -> None:
    made = status(code_pb2.PERMISSION_DENIED, info("SCOPE_NOT_ALLOWED"))
    made.details.insert(0, made.details.add(type_url="type.googleapis.com/of.the.Future", value=b"\xff"))
    assert type(failure_of_status(made)) is errors.ScopeNotAllowed


def test_the_status_travels_in_the_trailers() -> None:
    sent = status(code_pb2.PERMISSION_DENIED, info("GRANT_EXPIRED")).SerializeToString()
    error = of_call(code_pb2.PERMISSION_DENIED, ("other", "x"), (DETAILS_KEY, sent))
    assert type(error) is errors.GrantExpired


@pytest.mark.parametrize(
    "sent",
    [b"\xff\xff", status(code_pb2.OK).SerializeToString(), status(code_pb2.INTERNAL).SerializeToString(), "text"],
)
def test_trailers_that_are_no_status_or_contradict_the_call_are_ignored(sent: bytes | str) -> None:
    error = of_call(code_pb2.PERMISSION_DENIED, (DETAILS_KEY, sent), text="plain")
    assert (type(error), error.message) == (errors.AccessDenied, "plain")


def test_an_issuer_that_cannot_be_reached_is_named() -> None:
    error = of_call(code_pb2.UNAVAILABLE, text="Connection refused")
    assert type(error) is errors.IssuerUnavailable
    assert ADDRESS in error.message
    assert "Connection refused" in error.message


def test_a_deadline_is_a_time_out_that_is_not_retried() -> None:
    error = of_call(code_pb2.DEADLINE_EXCEEDED, text="Deadline Exceeded")
    assert type(error) is errors.IssuerTimedOut
    assert isinstance(error, errors.IssuerUnavailable)
    assert not error.retryable


@pytest.mark.parametrize(
    "text", ["... OPENSSL_internal:CERTIFICATE_VERIFY_FAILED: ...", "Hostname Verification Check failed."]
)
def test_a_certificate_that_was_refused_is_told_apart(text: str) -> None:
    """tests/rpc/test_agent_client_impostor.py has gRPC say so itself."""
    assert type(of_call(code_pb2.UNAVAILABLE, text=text)) is errors.IssuerNotTrusted


def test_what_the_issuer_says_is_never_taken_for_a_certificate_that_was_refused() -> None:
    said = status(code_pb2.UNAVAILABLE, info("SIGNER_UNAVAILABLE"), message="Hostname Verification Check failed.")
    error = of_call(code_pb2.UNAVAILABLE, (DETAILS_KEY, said.SerializeToString()), text=said.message)
    assert type(error) is errors.IssuerUnavailable


@pytest.mark.parametrize(
    ("expires", "expected"),
    [
        ("2026-11-26T16:00:00Z", datetime(2026, 11, 26, 16, tzinfo=UTC)),
        ("2026-11-26T16:00:00", None),
        ("soon", None),
        ("", None),
    ],
)
def test_a_missing_approval_names_the_request_that_is_open(expires: str, expected: datetime | None) -> None:
    details = info(
        "APPROVAL_REQUIRED", approvalRequest="approvalRequests/x", digest="sha256:0", expireTime=expires, scopes="a"
    )
    failure = failure_of_status(status(code_pb2.FAILED_PRECONDITION, details))
    assert isinstance(failure, errors.ApprovalRequired)
    assert (failure.approval_request, failure.approval_digest) == ("approvalRequests/x", "sha256:0")
    assert (failure.approval_expires_at, failure.scopes) == (expected, ("a",))


def test_nobody_asked_for_an_approval_yet() -> None:
    failure = failure_of_status(status(code_pb2.FAILED_PRECONDITION, info("APPROVAL_REQUIRED")))
    assert isinstance(failure, errors.ApprovalRequired)
    assert (failure.approval_request, failure.approval_expires_at, failure.approval_digest) == (None, None, None)
