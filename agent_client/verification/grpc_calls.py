"""What both gRPC interceptors know of a call: its credentials, who may make it, and how it is logged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from agent_client.verification.bearer import bearer_token
from agent_client.verification.certificates import der_of_pem
from agent_client.verification.grpc_answers import GrpcAnswer, grpc_answer
from agent_client.verification.refusal_log import log_refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from agent_client.verification.errors import VerificationError
    from agent_client.verification.method_scopes import MethodScopes
    from agent_client.verification.verified_token import VerifiedToken
    from agent_client.verification.verifier import TokenVerifier


class CallContext(Protocol):
    """What is asked of a call's context, of either kind."""

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """Return what the caller sent."""

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Return what TLS knows of the caller."""
        ...

    def peer(self) -> str:
        """Return the caller's network address."""
        ...


class Credentials(NamedTuple):
    """What a caller presents: the text of its token, not verified yet, and its certificate."""

    token: str
    certificate: bytes | None


class MethodRules(NamedTuple):
    """How the calls of one server are verified.

    Attributes:
        verifier: Verifies the tokens.
        methods: The scopes of each method.
        end_streams: A stream ends when its token expires.
    """

    verifier: TokenVerifier
    methods: MethodScopes
    end_streams: bool


def credentials_of(context: CallContext) -> Credentials:
    """Return what the caller presents.

    Raises:
        TokenMissing: There is no token.
        AuthorizationMalformed: There is no telling which one it is.
    """
    metadata = context.invocation_metadata() or ()
    values = [_text(value) for key, value in metadata if key.lower() == "authorization"]
    token = bearer_token(values)
    leaf = next(iter(context.auth_context().get("x509_pem_cert") or ()), None)
    return Credentials(token, None if leaf is None else der_of_pem(leaf))


def refusal(
    error: VerificationError, context: CallContext, method: str, token: VerifiedToken | None = None
) -> GrpcAnswer:
    """Log why a call is refused, and return how it ends."""
    log_refusal(error, asked=method, peer=context.peer(), token=token)
    return grpc_answer(error)


def parsed(deserializer: Callable[[bytes], Any] | None, request: Any) -> Any:  # noqa: ANN401 - any message
    """Return the request's message. Nothing of a request is parsed before its token is verified.

    Raises:
        RequestUnreadable: It is no such message.
    """
    if deserializer is None:
        return request
    try:
        return deserializer(request)
    except Exception as error:
        raise RequestUnreadable from error


class RequestUnreadable(Exception):
    """The request is not the message that the method takes. gRPC itself ends such a call with INTERNAL."""


UNREADABLE = "Exception deserializing request!"
"""What gRPC itself says."""


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
