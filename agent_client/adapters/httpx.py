"""Tokens for httpx.

::

    from agent_client.adapters.httpx import TokenAuth

    source = issuer.tokens_for("https://ledger.prod.example", ["ledger.read"])
    with httpx.Client(base_url="https://ledger.prod.example", auth=TokenAuth(source)) as ledger:
        ledger.get("/accounts")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_client.adapters.bearer import AUTHORIZATION, bearer, require_private
from agent_client.adapters.missing import not_installed
from agent_client.adapters.response import Answer, Pass, obey, verdict_of
from agent_client.adapters.sources import async_source, sync_source

try:
    import httpx
except ImportError as error:
    raise not_installed(__name__, "httpx", "httpx", error) from error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from agent_client.adapters.response import Verdict
    from agent_client.adapters.sources import Source
    from agent_client.answers import IssuedToken


class TokenAuth(httpx.Auth):
    """Presents a token with each request, and replaces it once when the server calls it invalid.

    A source of ``SyncIssuerClient`` is for ``httpx.Client``, one of ``IssuerClient`` for ``httpx.AsyncClient``. The
    token goes to whatever URL the client is asked for, so give each API a client of its own. A redirect to another
    origin does not get it: httpx takes the header away.

    A request is sent again only if httpx holds its body: bytes, text, JSON, a form. A stream, a file and a multipart
    upload are gone once sent; then :class:`~agent_client.resource_errors.TokenRefused` is raised with
    ``retried=False``, and the next request has a fresh token. ``request.read()`` before ``client.send`` has httpx hold
    the body.

    Requests raise, besides httpx's own errors, :class:`~agent_client.resource_errors.ResourceRefused`, what the source
    raises, :class:`~agent_client.resource_errors.InsecureTransport`, and ``TypeError`` if the source is of the other
    kind than the client.

    Args:
        source: Where the tokens come from.
        insecure_http: Let them go over the network in the clear. Without it, plain HTTP is only for this machine.
    """

    def __init__(self, source: Source, *, insecure_http: bool = False) -> None:
        self._source = source
        self._insecure_http = insecure_http

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send a request, once or twice; called by ``httpx.Client``."""
        source = sync_source(self._source, "httpx.Client")
        self._check(request)
        issued = source.get()
        response = yield _with_token(request, issued)
        if obey(_verdict(response, issued, retried=False), source, issued):
            fresh = source.get()
            if fresh is not issued:
                # The request that was refused: after a redirect it is not the first, which may have done its work.
                response = yield _with_token(response.request, fresh)
            obey(_verdict(response, fresh, retried=True), source, fresh)

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Send a request, once or twice; called by ``httpx.AsyncClient``."""
        source = async_source(self._source, "httpx.AsyncClient")
        self._check(request)
        issued = await source.get()
        response = yield _with_token(request, issued)
        if obey(_verdict(response, issued, retried=False), source, issued):
            fresh = await source.get()
            if fresh is not issued:
                # The request that was refused: after a redirect it is not the first, which may have done its work.
                response = yield _with_token(response.request, fresh)
            obey(_verdict(response, fresh, retried=True), source, fresh)

    def _check(self, request: httpx.Request) -> None:
        require_private(request.url.scheme, request.url.host, insecure_http=self._insecure_http)


def _with_token(request: httpx.Request, issued: IssuedToken) -> httpx.Request:
    request.headers[AUTHORIZATION] = bearer(issued)
    return request


def _verdict(response: httpx.Response, sent: IssuedToken, *, retried: bool) -> Verdict:
    if response.request.headers.get(AUTHORIZATION) != bearer(sent):
        return Pass()  # after a redirect to another origin, which never saw the token
    answer = Answer(response.status_code, tuple(response.headers.multi_items()))
    replayable = isinstance(response.request.stream, httpx.ByteStream)
    return verdict_of(answer, sent.token, retried=retried, replayable=replayable)
