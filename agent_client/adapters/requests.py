"""Tokens for requests.

::

    from agent_client.adapters.requests import TokenAuth

    source = issuer.tokens_for("https://ledger.prod.example", ["ledger.read"])
    with requests.Session() as ledger:
        ledger.auth = TokenAuth(source)
        ledger.get("https://ledger.prod.example/accounts")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agent_client.adapters.bearer import AUTHORIZATION, bearer, require_private
from agent_client.adapters.missing import not_installed
from agent_client.adapters.response import Answer, Pass, obey, verdict_of
from agent_client.adapters.sources import sync_source
from agent_client.resource_errors import ResourceRefused

try:
    import requests
    import requests.auth
except ImportError as error:
    raise not_installed(__name__, "requests", "requests", error) from error

if TYPE_CHECKING:
    from agent_client.adapters.response import Verdict
    from agent_client.adapters.sources import SyncSource
    from agent_client.answers import IssuedToken


class TokenAuth(requests.auth.AuthBase):
    """Presents a token with each request, and replaces it once when the server calls it invalid.

    The token goes to whatever URL the session is asked for, so give each API a session of its own. A redirect to
    another host does not get it: requests takes the header away. Each request of a chain of redirects may have its
    token replaced once.

    A request is sent again only if its body can be: text, bytes, a form, a multipart upload, or a file that can seek,
    which goes on from where it was. A generator is gone once sent; then
    :class:`~agent_client.resource_errors.TokenRefused` is raised with ``retried=False``, and the next request has a
    fresh token. A ``requests.PreparedRequest`` holds the token that it was prepared with, in the clear.

    Requests raise, besides requests' own errors, :class:`~agent_client.resource_errors.ResourceRefused`, what the
    source raises, and :class:`~agent_client.resource_errors.InsecureTransport`.

    Args:
        source: Where the tokens come from: ``SyncIssuerClient.tokens_for``.
        insecure_http: Let them go over the network in the clear. Without it, plain HTTP is only for this machine.

    Raises:
        TypeError: The source is one for an event loop.
    """

    def __init__(self, source: SyncSource, *, insecure_http: bool = False) -> None:
        self._source = sync_source(source, "requests")
        self._insecure_http = insecure_http

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Give a request its token; called by requests, which then calls the hook with each response."""
        url = urlsplit(request.url or "")
        require_private(url.scheme, url.hostname, insecure_http=self._insecure_http)
        issued = self._source.get()
        request.headers[AUTHORIZATION] = bearer(issued)
        refusals = _Refusals(self._source, issued, _position(request.body))
        request.register_hook("response", refusals)  # type: ignore[no-untyped-call]
        return request


class _Refusals:
    """The hook that looks at the responses to one request, and to those that it is redirected to."""

    def __init__(self, source: SyncSource, issued: IssuedToken, position: int | None) -> None:
        self._source = source
        self._issued = issued
        self._position = position

    def __call__(self, response: requests.Response, **settings: Any) -> requests.Response:  # noqa: ANN401 - requests has no types for them
        """Return ``response``, or that to the same request with a fresh token."""
        if not self._wants_another_token(response, retried=False):
            return response
        refused, self._issued = self._issued, self._source.get()
        second = response if self._issued is refused else self._send_again(response, settings)
        self._wants_another_token(second, retried=True)
        return second

    def _send_again(self, response: requests.Response, settings: dict[str, Any]) -> requests.Response:
        # Not a copy: requests makes the next request of a redirect from this one, which shall not carry the old token.
        request = response.request
        request.headers[AUTHORIZATION] = bearer(self._issued)
        if self._position is not None:
            _rewind(request.body, self._position)
        second: requests.Response = response.connection.send(request, **settings)
        second.history.append(response)
        return second

    def _wants_another_token(self, response: requests.Response, *, retried: bool) -> bool:
        """As :func:`obey`; a response that is not the caller's gives its connection back, its body unread."""
        try:
            wanted = obey(self._verdict(response, retried=retried), self._source, self._issued)
        except ResourceRefused:
            response.close()
            raise
        if wanted:
            response.close()
        return wanted

    def _verdict(self, response: requests.Response, *, retried: bool) -> Verdict:
        if response.request.headers.get(AUTHORIZATION) != bearer(self._issued):
            return Pass()  # after a redirect to another host, which never saw the token
        body: object = response.request.body
        replayable = body is None or isinstance(body, str | bytes) or self._position is not None
        answer = Answer(response.status_code, tuple(response.headers.items()))
        return verdict_of(answer, self._issued.token, retried=retried, replayable=replayable)


def _position(body: object) -> int | None:
    """Return where the body of a request begins, if it is a file that can be sent from there again."""
    try:
        return body.tell() if body.seekable() else None  # type: ignore[attr-defined]
    except (AttributeError, OSError):
        return None


def _rewind(body: object, position: int) -> None:
    if body is not None:  # a redirect that answers a POST is followed by a GET without one
        body.seek(position)  # type: ignore[attr-defined]
