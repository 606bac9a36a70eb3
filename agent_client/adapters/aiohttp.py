"""Tokens for aiohttp, from version 3.12.

::

    from agent_client.adapters.aiohttp import TokenMiddleware

    source = issuer.tokens_for("https://ledger.prod.example", ["ledger.read"])
    middlewares = [TokenMiddleware(source)]
    async with aiohttp.ClientSession("https://ledger.prod.example", middlewares=middlewares) as ledger:
        async with ledger.get("/accounts") as response:
            ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_client.adapters.bearer import AUTHORIZATION, bearer, require_private
from agent_client.adapters.missing import not_installed
from agent_client.adapters.response import Answer, obey, verdict_of
from agent_client.adapters.sources import async_source
from agent_client.resource_errors import ResourceRefused

try:
    # The first is new in 3.12, with the middlewares: that importing it works is what is wanted here.
    from aiohttp import ClientHandlerType, ClientRequest, ClientResponse  # noqa: TC002
    from yarl import URL
except ImportError as error:
    raise not_installed(__name__, "aiohttp", "aiohttp>=3.12", error) from error

if TYPE_CHECKING:
    from collections.abc import Collection

    from agent_client.adapters.response import Verdict
    from agent_client.adapters.sources import AsyncSource
    from agent_client.answers import IssuedToken


class TokenMiddleware:
    """Presents a token with each request, and replaces it once when the server calls it invalid.

    **It belongs to one API.** aiohttp calls a middleware for every request of a chain of redirects, and does not say
    which of them the caller asked for. So the token goes only to the origins that are named, or, where none is, to the
    origin of the first request; a request to another one goes without a token, and its answer is not looked at.

    A request is sent again only if its body can be: text, bytes, JSON, a form, or a file that can seek. An asynchronous
    generator is gone once sent; then :class:`~agent_client.resource_errors.TokenRefused` is raised with
    ``retried=False``, and the next request has a fresh token.

    Requests raise, besides aiohttp's own errors, :class:`~agent_client.resource_errors.ResourceRefused`, what the
    source raises, and :class:`~agent_client.resource_errors.InsecureTransport`.

    Args:
        source: Where the tokens come from: ``IssuerClient.tokens_for``.
        origins: Where they may go, ``https://ledger.prod.example``: scheme, host and port count.
        insecure_http: Let them go over the network in the clear. Without it, plain HTTP is only for this machine.

    Raises:
        TypeError: The source is one for threads, or ``origins`` is one string.
        ValueError: An origin is no absolute URL.
    """

    def __init__(self, source: AsyncSource, *, origins: Collection[str] = (), insecure_http: bool = False) -> None:
        if isinstance(origins, str):
            raise TypeError(f"origins is a list: write [{origins!r}]")
        self._source = async_source(source, "aiohttp")
        self._origins = frozenset(URL(origin).origin() for origin in origins)
        self._insecure_http = insecure_http

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send a request, once or twice; called by aiohttp."""
        if not self._may_have_token(request.url):
            return await handler(request)
        issued = await self._source.get()
        response = await self._send(request, handler, issued)
        if await self._wants_another_token(request, response, issued, retried=False):
            fresh = await self._source.get()
            if fresh is not issued:
                response = await self._send(request, handler, fresh)
            await self._wants_another_token(request, response, fresh, retried=True)
        return response

    def _may_have_token(self, url: URL) -> bool:
        origin = url.origin()
        if self._origins and origin not in self._origins:
            return False
        require_private(url.scheme, url.host, insecure_http=self._insecure_http)
        self._origins = self._origins or frozenset({origin})
        return True

    async def _send(self, request: ClientRequest, handler: ClientHandlerType, issued: IssuedToken) -> ClientResponse:
        request.headers[AUTHORIZATION] = bearer(issued)
        return await handler(request)

    async def _wants_another_token(
        self, request: ClientRequest, response: ClientResponse, sent: IssuedToken, *, retried: bool
    ) -> bool:
        """As :func:`obey`; a response that is not the caller's gives its connection back, its body unread."""
        try:
            wanted = obey(_verdict(request, response, sent, retried=retried), self._source, sent)
        except ResourceRefused:
            response.release()
            raise
        if wanted:
            response.release()
            await request.close()  # whatever still sent the body has ended
        return wanted


def _verdict(request: ClientRequest, response: ClientResponse, sent: IssuedToken, *, retried: bool) -> Verdict:
    answer = Answer(response.status, tuple(response.headers.items()))
    replayable = not (request.body and request.body.consumed)
    return verdict_of(answer, sent.token, retried=retried, replayable=replayable)
