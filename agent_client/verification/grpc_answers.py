"""From a refusal to the status of a gRPC call, with what a program needs to act on it (AIP-193). Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from agent_client.failures import DETAILS_KEY, ERROR_DOMAIN
from agent_client.verification.errors import (
    ApplicationRejected,
    InsufficientScope,
    KeysUnavailable,
    RevocationsUnavailable,
    TokenRejected,
    VerificationError,
    VerificationUnavailable,
)
from agent_client.verification.http_answers import RETRY_AFTER_SECONDS
from agent_client.verification.request_errors import (
    AuthorizationMalformed,
    MethodNotListed,
    StepUpNeeded,
    TokenMissing,
)

REASONS: dict[type[VerificationError], tuple[grpc.StatusCode, str]] = {
    TokenMissing: (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING"),
    AuthorizationMalformed: (grpc.StatusCode.UNAUTHENTICATED, "AUTHORIZATION_MALFORMED"),
    TokenRejected: (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_REJECTED"),
    InsufficientScope: (grpc.StatusCode.PERMISSION_DENIED, "SCOPE_INSUFFICIENT"),
    ApplicationRejected: (grpc.StatusCode.PERMISSION_DENIED, "APPLICATION_REJECTED"),
    MethodNotListed: (grpc.StatusCode.PERMISSION_DENIED, "METHOD_NOT_LISTED"),
    # Not UNAUTHENTICATED: the same caller with a newer token is where it was.
    StepUpNeeded: (grpc.StatusCode.FAILED_PRECONDITION, "STEP_UP_NEEDED"),
    KeysUnavailable: (grpc.StatusCode.UNAVAILABLE, "KEYS_UNAVAILABLE"),
    RevocationsUnavailable: (grpc.StatusCode.UNAVAILABLE, "REVOCATIONS_UNAVAILABLE"),
}
"""Total over the errors; a test holds it to that."""


class GrpcAnswer(NamedTuple):
    """How a refused call ends: the arguments of grpc.aio's ``abort``."""

    code: grpc.StatusCode
    details: str
    trailers: tuple[tuple[str, bytes], ...]

    def tell(self, context: grpc.ServicerContext) -> None:
        """Let the call end like this when its handler is done."""
        context.set_code(self.code)
        context.set_details(self.details)
        context.set_trailing_metadata(self.trailers)


def grpc_answer(error: VerificationError) -> GrpcAnswer:
    """Return the status that says why, without a word of the token."""
    code, reason = REASONS[type(error)]
    # The message of what is unavailable is for our log: it may name addresses.
    text = error.public_message if isinstance(error, VerificationUnavailable) else error.message
    status = Status(code=code.value[0], message=text)
    status.details.append(_packed(ErrorInfo(reason=reason, domain=ERROR_DOMAIN, metadata=_metadata(error))))
    if isinstance(error, VerificationUnavailable):
        status.details.append(_packed(_retry_info(error)))
    return GrpcAnswer(code, text, ((DETAILS_KEY, status.SerializeToString()),))


def _metadata(error: VerificationError) -> dict[str, str]:
    """Return what would do instead. Keys in lowerCamelCase, as AIP-193 wants them."""
    if isinstance(error, InsufficientScope):
        return {"scopes": " ".join(error.required)}
    if isinstance(error, StepUpNeeded):
        max_age = {} if error.max_age is None else {"maxAge": str(int(error.max_age.total_seconds()))}
        return ({"acrValues": " ".join(error.acr_values)} if error.acr_values else {}) | max_age
    return {}


def _retry_info(error: VerificationUnavailable) -> RetryInfo:
    delay = Duration(seconds=RETRY_AFTER_SECONDS)
    if error.retry_after is not None:
        delay.FromTimedelta(max(error.retry_after, timedelta(0)))
    return RetryInfo(retry_delay=delay)


def _packed(message: ErrorInfo | RetryInfo) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed
