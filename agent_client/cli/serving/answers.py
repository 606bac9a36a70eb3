"""What is answered. Pure."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from agent_client import errors
from agent_client.cli.token_forms import seconds_left

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from agent_client import IssuedToken

_ALWAYS = {
    "Content-Type": "application/json",
    # RFC 6749 section 5.1
    "Cache-Control": "no-store",
    "Pragma": "no-cache",
    "X-Content-Type-Options": "nosniff",
    # One request each: there is no next one whose beginning could be mistaken.
    "Connection": "close",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: HTTPStatus
    body: Mapping[str, object] = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the bytes of it."""
        body = json.dumps(self.body).encode()
        headers = {**_ALWAYS, **self.headers, "Content-Length": str(len(body))}
        lines = [f"HTTP/1.1 {self.status.value} {self.status.phrase}", *(f"{n}: {v}" for n, v in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + body


def token_answer(issued: IssuedToken, now: datetime) -> Answer:
    """Return the answer with a token (RFC 6749 section 5.1)."""
    return Answer(
        HTTPStatus.OK,
        {
            "access_token": issued.token.reveal(),
            "token_type": issued.token_type,
            "expires_in": seconds_left(issued, now),
            "scope": " ".join(issued.scopes),
        },
    )


def refusal(status: int, error: str, description: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Return the answer to a request that is refused (RFC 6749 section 5.2)."""
    headers = dict(headers or {})
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"  # RFC 9110 section 15.5.2: a 401 has it
    return Answer(HTTPStatus(status), {"error": error, "error_description": description}, headers)


def failure_answer(error: Exception) -> Answer:
    """Return the answer where the issuer gives no token. It names what the asker can tell the issuer's operator."""
    if isinstance(error, errors.AccessDenied):
        answer = refusal(403, "access_denied", error.message)
    elif isinstance(error, errors.LimitExceeded):
        answer = refusal(429, "slow_down", error.message, _retry_after(error))
    elif isinstance(error, errors.IssuerRequestError) and not isinstance(error, errors.IssuerUnavailable):
        answer = refusal(502, "server_error", error.message)
    else:
        message = error.message if isinstance(error, errors.IssuerRequestError) else "there is no identity to ask with"
        return refusal(503, "temporarily_unavailable", message, _retry_after(error))
    known = {"reason": error.reason, "decision_id": error.decision_id, "request_id": error.request_id}
    return Answer(answer.status, {**answer.body, **{k: v for k, v in known.items() if v}}, answer.headers)


def _retry_after(error: Exception) -> dict[str, str]:
    named = error.retry_after if isinstance(error, errors.IssuerRequestError) else None
    return {"Retry-After": str(max(math.ceil(named.total_seconds()), 1) if named else 1)}
