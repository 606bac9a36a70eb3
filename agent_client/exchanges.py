"""The methods of the issuer: the message that asks, and what its answer means. Both clients share it: no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from agent_client import answers
from agent_client.approvals import approval_request
from agent_client.requests import exchange_request_to_proto, token_request_to_proto
from agent_client.tokens.entry import Arrival
from issuer_api.v1 import approval_service_pb2 as approval_pb
from issuer_api.v1 import issuer_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from google.protobuf.message import Message

    from agent_client.answers import Access, IssuedToken, KeySet
    from agent_client.approvals import ApprovalRequest
    from agent_client.errors import IssuerRequestError
    from agent_client.requests import TokenRequest
    from agent_client.subject_token import SubjectToken
    from agent_client.token_checks import CallerIdentity

Answer = TypeVar("Answer")
_SERVICE = pb.DESCRIPTOR.services_by_name["IssuerService"].full_name
_APPROVALS = approval_pb.DESCRIPTOR.services_by_name["ApprovalService"].full_name


class Circumstances(NamedTuple):
    """Of one answered call: who asked, when it was sent (seconds of ``elapsed``), when the answer came (UTC)."""

    caller: CallerIdentity
    sent_at: float
    answered_at: datetime


@dataclass(frozen=True, slots=True)
class Exchange(Generic[Answer]):
    """One call, whole.

    Attributes:
        method: The RPC's path.
        message: What is sent; it may hold a token.
        parse: Reads the response's bytes into its message.
        read: Checks the message and makes a value of it, under the circumstances of the call.
        streams: It is answered with a stream, of which the last message before its end or the deadline counts.
    """

    method: str
    message: Message = field(repr=False)
    parse: Callable[[bytes], Message]
    read: Callable[[Any, Circumstances], Answer]
    streams: bool = False


def issue_token(request: TokenRequest) -> Exchange[IssuedToken]:
    """Return the exchange for one token."""
    if request.on_behalf_of is not None:
        return _exchange_token(request, request.on_behalf_of)
    return Exchange(
        f"/{_SERVICE}/IssueToken",
        token_request_to_proto(request),
        pb.IssueTokenResponse.FromString,
        lambda answer, call: answers.issued_token(answer, request, call.caller, call.answered_at),
    )


def _exchange_token(request: TokenRequest, subject: SubjectToken) -> Exchange[IssuedToken]:
    return Exchange(
        f"/{_SERVICE}/ExchangeToken",
        exchange_request_to_proto(request, subject),
        pb.ExchangeTokenResponse.FromString,
        lambda answer, call: answers.issued_token(answer.issued, request, call.caller, call.answered_at),
    )


def kept_token(request: TokenRequest) -> Exchange[Arrival]:
    """Return the exchange for one token, with what it takes to keep it."""
    exchange = issue_token(request)
    return Exchange(
        exchange.method,
        exchange.message,
        exchange.parse,
        lambda answer, call: Arrival(exchange.read(answer, call), call.caller, call.sent_at),
    )


def issue_tokens(requests: Sequence[TokenRequest]) -> Exchange[list[IssuedToken | IssuerRequestError]]:
    """Return the exchange for several tokens.

    Raises:
        ValueError: One of them is on behalf of another: such are asked for one by one.
    """
    if any(request.on_behalf_of is not None for request in requests):
        raise ValueError("a token on behalf of another is asked for by itself: use exchange_token")
    return Exchange(
        f"/{_SERVICE}/BatchIssueTokens",
        pb.BatchIssueTokensRequest(requests=[token_request_to_proto(request) for request in requests]),
        pb.BatchIssueTokensResponse.FromString,
        lambda answer, call: answers.batch_results(answer, requests, call.caller, call.answered_at),
    )


def list_access() -> Exchange[list[Access]]:
    """Return the exchange for what the caller may ask for."""
    return Exchange(
        f"/{_SERVICE}/ListAccess",
        pb.ListAccessRequest(),
        pb.ListAccessResponse.FromString,
        lambda answer, _: answers.accesses(answer),
    )


def get_key_set() -> Exchange[KeySet]:
    """Return the exchange for the issuer's public keys."""
    return Exchange(
        f"/{_SERVICE}/GetKeySet",
        pb.GetKeySetRequest(),
        pb.GetKeySetResponse.FromString,
        lambda answer, _: answers.key_set(answer),
    )


def create_approval_request(request: TokenRequest, reason: str) -> Exchange[ApprovalRequest]:
    """Return the exchange that asks people for what a request needs."""
    message = approval_pb.CreateApprovalRequestRequest(token=token_request_to_proto(request), reason=reason)
    return Exchange(
        f"/{_APPROVALS}/CreateApprovalRequest",
        message,
        approval_pb.CreateApprovalRequestResponse.FromString,
        lambda answer, _: approval_request(answer.approval_request),
    )


def wait_approval_request(name: str) -> Exchange[ApprovalRequest]:
    """Return the exchange that waits until a request is decided, or for as long as the call may take."""
    return Exchange(
        f"/{_APPROVALS}/WaitApprovalRequest",
        approval_pb.WaitApprovalRequestRequest(name=name),
        approval_pb.WaitApprovalRequestResponse.FromString,
        lambda answer, _: approval_request(answer.approval_request, name),
        streams=True,
    )


def cancel_approval_request(name: str) -> Exchange[ApprovalRequest]:
    """Return the exchange that takes a request back."""
    return Exchange(
        f"/{_APPROVALS}/CancelRequest",
        approval_pb.CancelRequestRequest(name=name),
        approval_pb.CancelRequestResponse.FromString,
        lambda answer, _: approval_request(answer.approval_request, name),
    )


def serialize(message: Message) -> bytes:
    """Return the bytes of a message, as gRPC wants to be told."""
    return message.SerializeToString()
