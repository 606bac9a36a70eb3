from __future__ import annotations

from datetime import timedelta

import pytest
from google.rpc import code_pb2
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from support.numbered_tokens import SECRET, issued, token_text

from agent_client.adapters.call_status import MAX_DETAILS_BYTES, Ended, verdict_of_call
from agent_client.adapters.response import Pass, Raise, Retry
from agent_client.resource_errors import ResourceRefused, ScopeInsufficient, StepUpRequired, TokenRefused

SENT = issued(1).token
DETAILS = "grpc-status-details-bin"


def details(code: int, reason: str, domain: str = "spiffe-issuer", **metadata: str) -> bytes:
    status = Status(code=code)
    status.details.add().Pack(RetryInfo())
    status.details.add().Pack(ErrorInfo(reason="TOKEN_REJECTED", domain="proxy.example"))
    status.details.add().Pack(ErrorInfo(reason=reason, domain=domain, metadata=metadata))
    sent: bytes = status.SerializeToString()
    return sent


def ended(code: int, reason: str, text: str = "no", **metadata: str) -> Ended:
    return Ended(code, text, (("x-text", token_text(1)), (DETAILS, details(code, reason, **metadata))))


def error(call: Ended, *, retried: bool = False) -> ResourceRefused:
    raised = verdict_of_call(call, SENT, retried=retried)
    assert isinstance(raised, Raise)
    return raised.error


def test_a_rejected_token_is_replaced_once() -> None:
    call = ended(code_pb2.UNAUTHENTICATED, "TOKEN_REJECTED")
    assert verdict_of_call(call, SENT, retried=False) == Retry()
    refused = error(call, retried=True)
    assert isinstance(refused, TokenRefused)
    assert refused.retried


def test_insufficient_scope_names_the_scopes() -> None:
    refused = error(ended(code_pb2.PERMISSION_DENIED, "SCOPE_INSUFFICIENT", scopes="a b\n c"))
    assert isinstance(refused, ScopeInsufficient)
    assert refused.scopes == ("a", "c")
    assert refused.resource_metadata is None


def test_a_step_up_says_what_is_wanted() -> None:
    refused = error(ended(code_pb2.FAILED_PRECONDITION, "STEP_UP_NEEDED", acrValues="gold silver", maxAge="60"))
    assert isinstance(refused, StepUpRequired)
    assert (refused.acr_values, refused.max_age) == (("gold", "silver"), timedelta(minutes=1))


def test_an_error_tells_the_status_without_the_token_and_prints_on_one_line() -> None:
    call = ended(
        code_pb2.PERMISSION_DENIED, "SCOPE_INSUFFICIENT", f"no:\n\x1b[2J{token_text(1)}", resourceMetadata="https://x\n"
    )
    refused = error(call)
    assert refused.description == "no:??[2J[token]"
    assert refused.resource_metadata == "https://x?"
    assert refused.headers == (("x-text", "[token]"),)
    assert str(refused).isprintable()
    assert SECRET not in repr((refused, str(refused), refused.answer, call))


@pytest.mark.parametrize(
    "call",
    [
        Ended(code_pb2.OK, "", ()),
        Ended(code_pb2.UNAUTHENTICATED, "", ()),
        Ended(code_pb2.UNAUTHENTICATED, "", ((DETAILS, b"\xff"),)),
        Ended(code_pb2.UNAUTHENTICATED, "", ((DETAILS, "text"),)),
        Ended(code_pb2.UNAUTHENTICATED, "", ((DETAILS, details(code_pb2.ABORTED, "TOKEN_REJECTED")),)),
        Ended(code_pb2.UNAUTHENTICATED, "", ((DETAILS, details(code_pb2.UNAUTHENTICATED, "TOKEN_REJECTED", "x")),)),
        ended(code_pb2.UNAUTHENTICATED, "TOKEN_REJECTED", padding="x" * MAX_DETAILS_BYTES),
        ended(code_pb2.UNAUTHENTICATED, "TOKEN_MISSING"),
        ended(code_pb2.UNAUTHENTICATED, "SCOPE_INSUFFICIENT"),
        ended(code_pb2.UNAVAILABLE, "KEYS_UNAVAILABLE"),
    ],
)
def test_everything_else_passes(call: Ended) -> None:
    assert verdict_of_call(call, SENT, retried=False) == Pass()
