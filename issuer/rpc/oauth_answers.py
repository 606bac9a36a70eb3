"""Answers of the OAuth endpoints over HTTP: RFC 7662 section 2.2, RFC 7009 section 2.2, RFC 6749 section 5.2. Pure."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from google.rpc import code_pb2
from google.rpc.error_details_pb2 import RetryInfo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from google.rpc.status_pb2 import Status

    from issuer.rpc.oauth_forms import FormRefused
    from issuer_api.v1 import issuer_service_pb2 as pb

USUAL_RETRY_SECONDS: Final = 1
_NO_STORE: Final = ((b"cache-control", b"no-store"), (b"pragma", b"no-cache"))
"""RFC 7662 section 4: an answer must not outlive what it says."""
_ERRORS: Final[Mapping[int, tuple[int, str]]] = {
    code_pb2.INVALID_ARGUMENT: (400, "invalid_request"),
    code_pb2.UNAUTHENTICATED: (401, "invalid_client"),
    code_pb2.PERMISSION_DENIED: (403, "access_denied"),
    code_pb2.RESOURCE_EXHAUSTED: (429, "temporarily_unavailable"),
    code_pb2.UNAVAILABLE: (503, "temporarily_unavailable"),
}
"""HTTP status and error code for what ends a call; everything else is a fault of ours."""
_LATER: Final = frozenset({429, 503})


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A whole answer, as ASGI takes it."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def introspected(told: pb.IntrospectTokenResponse) -> HttpAnswer:
    """Return what is told of a token. Of one that is not active, no more than that (RFC 7662 section 2.2)."""
    return _json(200, _members(told) if told.active else {"active": False})


def revoked() -> HttpAnswer:
    """Return that a token is revoked, or was none of the caller's: RFC 7009 section 2.2 does not tell these apart."""
    return HttpAnswer(200, (*_NO_STORE, (b"content-length", b"0")), b"")


def refused(refusal: FormRefused) -> HttpAnswer:
    """Return why a request was not looked at."""
    allow = ((b"allow", b"POST"),) if refusal.status == 405 else ()  # noqa: PLR2004 - RFC 9110 section 15.5.6
    return _json(refusal.status, {"error": refusal.error, "error_description": refusal.description}, allow)


def failed(status: Status) -> HttpAnswer:
    """Return how a call ended that the pipeline did not let through, or that failed."""
    code, error = _ERRORS.get(status.code, (500, "server_error"))
    headers = ((b"retry-after", str(_retry_seconds(status)).encode()),) if code in _LATER else ()
    return _json(code, {"error": error, "error_description": status.message}, headers)


def not_found() -> HttpAnswer:
    """Return that there is no such endpoint."""
    return HttpAnswer(404, (*_NO_STORE, (b"content-length", b"0")), b"")


def _members(told: pb.IntrospectTokenResponse) -> dict[str, Any]:
    always = {
        "active": True,
        "scope": " ".join(told.scopes),
        "client_id": told.client_id,
        "token_type": told.token_type,
        "exp": told.expire_time.seconds,
        "iat": told.issue_time.seconds,
        "nbf": told.not_before_time.seconds,
        "sub": told.subject,
        "aud": told.audience,
        "iss": told.issuer,
        "jti": told.token_id,
    }
    sometimes = {
        "application": told.application,
        "cnf": {"x5t#S256": told.certificate_thumbprint} if told.certificate_thumbprint else None,
        "act": _act(told.actors),
        "authorization_details": json.loads(told.authorization_details) if told.authorization_details else None,
        "txn": told.transaction,
        "grant_id": told.grant_id,
    }
    return always | {name: value for name, value in sometimes.items() if value}


def _act(actors: Sequence[pb.IntrospectedActor]) -> dict[str, Any] | None:
    """Return the ``act`` member, the current actor outermost (RFC 8693 section 4.1)."""
    act: dict[str, Any] | None = None
    for actor in reversed(actors):
        act = {"sub": actor.subject, "iss": actor.issuer} | ({"act": act} if act else {})
    return act


def _retry_seconds(status: Status) -> int:
    for detail in status.details:
        info = RetryInfo()
        if detail.Is(RetryInfo.DESCRIPTOR) and detail.Unpack(info):
            return math.ceil(info.retry_delay.ToMilliseconds() / 1000) or USUAL_RETRY_SECONDS
    return USUAL_RETRY_SECONDS


def _json(status: int, members: Mapping[str, Any], headers: tuple[tuple[bytes, bytes], ...] = ()) -> HttpAnswer:
    body = json.dumps(members, separators=(",", ":")).encode("ascii")
    about = ((b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()))
    return HttpAnswer(status, (*about, *_NO_STORE, *headers), body)
