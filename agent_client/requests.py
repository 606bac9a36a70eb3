"""What is asked, as a value, and as the message that carries it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration

from agent_client.errors import InvalidTokenRequest
from issuer_api.v1 import issuer_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_client.subject_token import SubjectToken


@dataclass(frozen=True, slots=True)
class Intent:
    """What the token is for; policy may weigh it. Each at most 256 printable ASCII characters, ``None`` says nothing.

    Attributes:
        operation: What will be done, as in ``settle-batch``.
        resource: To what.
        workflow: The automation that it is a part of.
        ticket: The change ticket.
        transaction: The transaction id.
    """

    operation: str | None = None
    resource: str | None = None
    workflow: str | None = None
    ticket: str | None = None
    transaction: str | None = None


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """One token that a workload asks for. The issuer checks it; only types are looked at here.

    Attributes:
        audience: The one API that the token is for, exactly as policy names it.
        scopes: What it should allow there, 1 to 32 names. Kept as a tuple.
        ttl: The lifetime asked for; ``None`` asks for the longest that policy allows.
        application: On whose behalf the workload acts; needed where policy lets it serve several.
        bind_certificate: Ask for a token that only works together with this workload's certificate (RFC 8705).
        allow_partial: Take the scopes that are granted rather than all or nothing.
        validate_only: Decide, but issue nothing.
        intent: What the token is for.
        request_approval: Where people have to approve it, ask them, unless that was done.
        approval_reason: Why it is needed now, for those who decide; at most 512 printable characters.
        on_behalf_of: The token of whom this workload acts for; ``None`` when it acts for itself.
        access: The name of the window of access that it is for (:mod:`agent_client.access`).

    Raises:
        TypeError: ``scopes`` is one string, whose letters would be taken for scopes, or ``ttl`` is a bare number.
    """

    audience: str
    scopes: Sequence[str]
    ttl: timedelta | None = None
    application: str | None = None
    bind_certificate: bool = False
    allow_partial: bool = False
    validate_only: bool = False
    intent: Intent | None = None
    request_approval: bool = False
    approval_reason: str = ""
    on_behalf_of: SubjectToken | None = None
    access: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.scopes, str):
            raise TypeError(f"scopes is a list: write [{self.scopes!r}]")
        ttl: object = self.ttl
        if not isinstance(ttl, timedelta | None):
            raise TypeError(f"ttl is a timedelta: write timedelta(seconds={ttl!r})")
        object.__setattr__(self, "scopes", tuple(self.scopes))


def exchange_request_to_proto(request: TokenRequest, subject: SubjectToken) -> pb.ExchangeTokenRequest:
    """Return the message of a request on behalf of another.

    Raises:
        InvalidTokenRequest: A text of it cannot be sent, being no Unicode.
    """
    message = pb.ExchangeTokenRequest(subject_token_type=subject.type.value, request=token_request_to_proto(request))
    try:
        message.subject_token = subject.reveal()
    except UnicodeEncodeError as error:
        raise InvalidTokenRequest("the subject token is no Unicode") from error.with_traceback(None)
    return message


def token_request_to_proto(request: TokenRequest) -> pb.IssueTokenRequest:
    """Return the message of a request; whom it is on behalf of is not in it.

    Raises:
        InvalidTokenRequest: A text of it cannot be sent, being no Unicode.
    """
    try:
        message = pb.IssueTokenRequest(
            audience=request.audience,
            scopes=request.scopes,
            application=request.application or "",
            allow_partial=request.allow_partial,
            validate_only=request.validate_only,
            request_approval=request.request_approval,
            approval_reason=request.approval_reason,
            intent=None if request.intent is None else intent_to_proto(request.intent),
            access=request.access or "",
        )
    except UnicodeEncodeError as error:
        raise InvalidTokenRequest("the request has a text that is no Unicode") from error
    if request.ttl is not None:
        message.ttl.CopyFrom(duration_to_proto(request.ttl))
    if request.bind_certificate:
        message.proof_binding = pb.PROOF_BINDING_TLS_CERTIFICATE
    return message


def intent_to_proto(intent: Intent) -> pb.Intent:
    """Return the message of an intent."""
    return pb.Intent(**asdict(intent))


def duration_to_proto(ttl: timedelta) -> Duration:
    """Return the message of a duration, which the issuer looks at."""
    # Not FromTimedelta, which raises for what the issuer answers with the name of the field.
    return Duration(seconds=ttl.days * 86_400 + ttl.seconds, nanos=ttl.microseconds * 1000)
