"""From a refusal to its HTTP answer: RFC 6750 section 3, RFC 9470 section 3, RFC 9728 section 5.1. Pure."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from agent_client.challenges import Challenge
from agent_client.verification.errors import InsufficientScope, VerificationUnavailable
from agent_client.verification.request_errors import StepUpNeeded
from agent_client.verification.resource_metadata import MAX_AGE_SECONDS, MEDIA_TYPE

if TYPE_CHECKING:
    from datetime import timedelta

    from agent_client.verification.errors import VerificationError
    from agent_client.verification.resource_metadata import ResourceMetadata

RETRY_AFTER_SECONDS = 5
"""What a client waits when nobody knows better: about the time that one fetch of the keys may take."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """One whole answer, as ASGI takes it: header names in lower case."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class HttpRefusals:
    """Makes the answers of one API.

    Attributes:
        realm: The ``realm`` of each challenge; ``None`` for none.
        resource_metadata: The URL of the API's metadata, in each challenge; ``None`` for none.
    """

    realm: str | None
    resource_metadata: str | None

    def answer(self, error: VerificationError) -> HttpAnswer:
        """Return the answer that says why, without a word of the token."""
        headers = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store")]
        if isinstance(error, VerificationUnavailable):
            headers.append((b"retry-after", str(_whole_seconds(error.retry_after)).encode()))
        else:
            headers.append((b"www-authenticate", self._challenge(error).render().encode("ascii")))
        body = json.dumps(_problem(error)).encode("ascii")
        headers.append((b"content-length", str(len(body)).encode()))
        return HttpAnswer(error.http_status, tuple(headers), body)

    def _challenge(self, error: VerificationError) -> Challenge:
        """Return the challenge. Without a token it has no error: RFC 6750 section 3.1."""
        parameters = {
            "realm": self.realm,
            "error": error.oauth_error,
            "error_description": error.oauth_error and error.message,
            **_needed(error),
            "resource_metadata": self.resource_metadata,
        }
        return Challenge("Bearer", {name: value for name, value in parameters.items() if value})


def _needed(error: VerificationError) -> dict[str, str]:
    """Return the parameters that say what would do instead."""
    if isinstance(error, InsufficientScope):
        return {"scope": " ".join(error.required)}
    if isinstance(error, StepUpNeeded):
        max_age = {} if error.max_age is None else {"max_age": str(int(error.max_age.total_seconds()))}
        return {"acr_values": " ".join(error.acr_values)} | max_age
    return {}


def _problem(error: VerificationError) -> dict[str, object]:
    """Return the body (RFC 9457). The message of what is unavailable is for our log: it may name addresses."""
    detail = error.public_message if isinstance(error, VerificationUnavailable) else error.message
    said = {"error": error.oauth_error, **_needed(error)}
    return {
        "title": HTTPStatus(error.http_status).phrase,
        "status": error.http_status,
        "detail": detail,
        **{name: value for name, value in said.items() if value},
    }


def _whole_seconds(wait: timedelta | None) -> int:
    return RETRY_AFTER_SECONDS if wait is None else max(1, math.ceil(wait.total_seconds()))


def metadata_answer(metadata: ResourceMetadata, method: str) -> HttpAnswer:
    """Return the answer to a request for an API's metadata, which anybody may make."""
    if method not in ("GET", "HEAD"):
        return HttpAnswer(405, ((b"allow", b"GET, HEAD"), (b"content-length", b"0")), b"")
    body = metadata.document()
    headers = (
        (b"content-type", MEDIA_TYPE.encode()),
        (b"cache-control", f"public, max-age={MAX_AGE_SECONDS}".encode()),
        (b"content-length", str(len(body)).encode()),
    )
    return HttpAnswer(200, headers, b"" if method == "HEAD" else body)
