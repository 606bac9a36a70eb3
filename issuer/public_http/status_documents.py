"""Signed status lists as answers (draft-ietf-oauth-status-list-20 sections 8.2 and 9), rendered when they change."""

from __future__ import annotations

import gzip
import json
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from issuer.public_http.documents import Document, json_answer, names_tag

if TYPE_CHECKING:
    from starlette.requests import Request

    from issuer.public_http.messages import ListShown

MEDIA_TYPE: Final = "application/statuslist+jwt"
_TAKEN: Final = frozenset({MEDIA_TYPE, "application/*", "*/*"})
_ANYWHERE: Final = {"access-control-allow-origin": "*"}
"""Section 8.1: verifiers in browsers read them too. There is nothing in them that only some may see."""
NOT_IN_HISTORY: Final = json_answer(501, {"error": "not_implemented"}, _ANYWHERE)
"""Section 8.4: who wants the list of another time is told that there is none."""
NOT_ACCEPTABLE: Final = json_answer(406, {"error": "not_acceptable"}, _ANYWHERE)


class _Rendered:
    """One list in one encoding, and 304 for who has it."""

    def __init__(self, content: bytes, tag: str, max_age: int, encoding: dict[str, str]) -> None:
        headers = {
            "etag": tag,
            "cache-control": f"public, max-age={max_age}",
            "vary": "accept, accept-encoding",
            **_ANYWHERE,
        }
        self.full = Response(content, media_type=MEDIA_TYPE, headers={**headers, **encoding})
        self.unchanged = Response(status_code=304, headers=headers)


class ListDocument:
    """A signed list. Its entity tags tell the encodings apart (RFC 9110 section 8.8.3.3)."""

    def __init__(self, shown: ListShown) -> None:
        content = shown.text.encode("ascii")
        digest = sha256(content).hexdigest()[:32]
        self._tags = (f'"{digest}"', f'"{digest}-gzip"')
        self._plain = _Rendered(content, self._tags[0], shown.max_age, {})
        compressed = gzip.compress(content, mtime=0)  # base64 twice over: about half is left
        self._gzip = _Rendered(compressed, self._tags[1], shown.max_age, {"content-encoding": "gzip"})

    def answer(self, request: Request) -> Response:
        """Return the list as it is asked for, 304, 406, or 501 for one of another time."""
        headers = request.headers
        if request.scope["query_string"] and "time" in request.query_params:
            return NOT_IN_HISTORY
        if (accept := headers.get("accept")) and not _names(accept, _TAKEN):
            return NOT_ACCEPTABLE
        rendered = self._gzip if _names(headers.get("accept-encoding", ""), _GZIP) else self._plain
        return rendered.unchanged if names_tag(headers.get("if-none-match", ""), self._tags) else rendered.full


_GZIP: Final = frozenset({"gzip", "x-gzip"})


def _names(header: str, wanted: frozenset[str]) -> bool:
    """Return whether a list of choices (RFC 9110 section 12.4) names one that is wanted, and not to rule it out."""
    for choice in header.split(","):
        name, _, parameters = choice.partition(";")
        if name.strip().lower() in wanted and not _ruled_out(parameters):
            return True
    return False


def _ruled_out(parameters: str) -> bool:
    weight = parameters.replace(" ", "").lower().rpartition("q=")[2]
    return bool(parameters) and weight.strip("0") in {"", "."}


class ShownLists:
    """Every list that is shown now.

    Args:
        uri: What each list's URI begins with, the slash included.
        max_age: Seconds that the list of lists may be cached.
    """

    def __init__(self, uri: str, max_age: int) -> None:
        self._uri = uri
        self._max_age = max_age
        self._by_name: dict[str, ListDocument] = {}
        self._render()

    def post(self, shown: ListShown) -> None:
        """Show a list, or show it no more."""
        known = shown.name in self._by_name
        if shown.text:
            self._by_name[shown.name] = ListDocument(shown)
        else:
            self._by_name.pop(shown.name, None)
        if known is not (shown.name in self._by_name):
            self._render()

    def get(self, name: str) -> ListDocument | None:
        """Return a list; ``None`` when there is none, or it is over."""
        return self._by_name.get(name)

    def _render(self) -> None:
        named = [self._uri + name for name in sorted(self._by_name)]
        content = json.dumps({"status_lists": named}, separators=(",", ":")).encode()
        self.aggregation = Document(content, self._max_age, headers=_ANYWHERE)
