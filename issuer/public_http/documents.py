"""The answers, rendered when they change rather than when they are asked for.

Some verifiers fetch the key set for every token that fails, so anyone who can send them garbage decides how often: an
answer here is a look-up and bytes that are already there.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING

from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.requests import Request

    from issuer.public_http.messages import State

_MAX_IF_NONE_MATCH = 1024
"""More than a list of entity tags that we ever gave out; a longer header is simply not a match."""


class Document:
    """A cacheable JSON document and its entity tag (RFC 9110 section 8.8.3)."""

    def __init__(self, content: bytes, max_age: int, headers: dict[str, str] | None = None) -> None:
        self._tag = f'"{sha256(content).hexdigest()[:32]}"'
        headers = {"etag": self._tag, "cache-control": f"public, max-age={max_age}", **(headers or {})}
        self._full = Response(content, media_type="application/json", headers=headers)
        self._unchanged = Response(status_code=304, headers=headers)

    def answer(self, request: Request) -> Response:
        """Return the document, or 304 when the asker has it (RFC 9110 section 13.1.2)."""
        known = names_tag(request.headers.get("if-none-match", ""), (self._tag,))
        return self._unchanged if known else self._full


def names_tag(if_none_match: str, tags: tuple[str, ...]) -> bool:
    """Return whether an ``If-None-Match`` names one of some entity tags (RFC 9110 section 13.1.2)."""
    if not if_none_match or len(if_none_match) > _MAX_IF_NONE_MATCH:
        return False
    named = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return "*" in named or not named.isdisjoint(tags)


def json_answer(status: int, body: dict[str, object], headers: dict[str, str] | None = None) -> Response:
    """Return a small JSON answer that nobody may cache."""
    content = json.dumps(body, separators=(",", ":"))
    headers = {**(headers or {}), "cache-control": "no-store"}
    return Response(content, status_code=status, media_type="application/json", headers=headers)


class Board:
    """The current answers; :meth:`post` replaces them."""

    def __init__(self, state: State, max_age: int) -> None:
        self._max_age = max_age
        self.post(state)

    def post(self, state: State) -> None:
        """Render a new state."""
        self.jwks = Document(state.jwks.encode(), self._max_age)
        readiness: dict[str, object] = {"ready": True} if state.ready else {"ready": False, "reason": state.reason}
        self.readiness = json_answer(200 if state.ready else 503, readiness)
