"""The four methods of the issuer: the message that asks, and what its answer means. Both clients share it: no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from agent_client import answers
from agent_client.requests import token_request_to_proto
from issuer_api.v1 import issuer_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from google.protobuf.message import Message

    from agent_client.answers import Access, IssuedToken, KeySet
    from agent_client.errors import IssuerRequestError
    from agent_client.requests import TokenRequest
    from agent_client.token_checks import CallerIdentity

Answer = TypeVar("Answer")
_SERVICE = pb.DESCRIPTOR.services_by_name["IssuerService"].full_name


@dataclass(frozen=True, slots=True)
class Exchange(Generic[Answer]):
    """One call, whole.

    Attributes:
        method: The RPC's path.
        message: What is sent.
        parse: Reads the response's bytes into its message.
        read: Checks the message and makes a value of it, for the caller who asked and the time of the answer.
    """

    method: str
    message: Message
    parse: Callable[[bytes], Message]
    read: Callable[[Any, CallerIdentity, datetime], Answer]


def issue_token(request: TokenRequest) -> Exchange[IssuedToken]:
    """Return the exchange for one token."""
    return Exchange(
        f"/{_SERVICE}/IssueToken",
        token_request_to_proto(request),
        pb.IssueTokenResponse.FromString,
        lambda answer, caller, now: answers.issued_token(answer, request, caller, now),
    )


def issue_tokens(requests: Sequence[TokenRequest]) -> Exchange[list[IssuedToken | IssuerRequestError]]:
    """Return the exchange for several tokens."""
    return Exchange(
        f"/{_SERVICE}/BatchIssueTokens",
        pb.BatchIssueTokensRequest(requests=[token_request_to_proto(request) for request in requests]),
        pb.BatchIssueTokensResponse.FromString,
        lambda answer, caller, now: answers.batch_results(answer, requests, caller, now),
    )


def list_access() -> Exchange[list[Access]]:
    """Return the exchange for what the caller may ask for."""
    return Exchange(
        f"/{_SERVICE}/ListAccess",
        pb.ListAccessRequest(),
        pb.ListAccessResponse.FromString,
        lambda answer, _caller, _now: answers.accesses(answer),
    )


def get_key_set() -> Exchange[KeySet]:
    """Return the exchange for the issuer's public keys."""
    return Exchange(
        f"/{_SERVICE}/GetKeySet",
        pb.GetKeySetRequest(),
        pb.GetKeySetResponse.FromString,
        lambda answer, _caller, _now: answers.key_set(answer),
    )


def serialize(message: Message) -> bytes:
    """Return the bytes of a message, as gRPC wants to be told."""
    return message.SerializeToString()
