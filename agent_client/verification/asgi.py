"""Verification in front of an ASGI application: Starlette, FastAPI, anything. No framework is imported.

::

    app.add_middleware(TokenMiddleware, verifier=verifier, scopes=["ledger.read"], public_paths=["/healthz"])

    app = TokenMiddleware(app, verifier)     # the same, for any ASGI application

What a request gets before the application sees it::

    no bearer token                              401  Bearer realm="..."
    two Authorization headers, no token syntax   400  error="invalid_request"
    a token that is not good here                401  error="invalid_token"
    a scope is missing                           403  error="insufficient_scope", scope="..."
    no keys to verify it with                    503  Retry-After

What endpoints raise is answered as well, as long as their own answer has not begun: ``InsufficientScope`` (so, by
``current_token().require(...)``) and ``StepUpNeeded``. Query and body are not looked at: RFC 6750 sections 2.2 and 2.3
are not supported, and a token there is no token.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent_client.verification.asgi_certificates import tls_extension_certificate
from agent_client.verification.asgi_connections import HttpConnection, WebsocketConnection, send_answer
from agent_client.verification.bearer import bearer_token
from agent_client.verification.current import NoCurrentToken, ServedCall
from agent_client.verification.errors import RejectionReason, TokenRejected, VerificationError
from agent_client.verification.expiry import seconds_until_end
from agent_client.verification.http_answers import HttpRefusals, metadata_answer
from agent_client.verification.public_paths import PublicPaths, route_path
from agent_client.verification.request_errors import RAISED_BY_HANDLERS
from agent_client.verification.resource_metadata import ResourceMetadata

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from agent_client.verification.asgi_certificates import CertificateOf
    from agent_client.verification.asgi_connections import AsgiApp, Connection, Receive, Scope, Send
    from agent_client.verification.verified_token import VerifiedToken
    from agent_client.verification.verifier import TokenVerifier


class TokenMiddleware:
    """Lets requests through that bring a token which is good here.

    The application finds the token by :func:`~agent_client.verification.current.current_token`, in ``scope["token"]``
    and in ``scope["state"]["token"]``, Starlette's ``request.state.token``. A websocket is closed when its token
    expires; an HTTP answer that is under way then goes on.

    Args:
        app: The application.
        verifier: Verifies the tokens. It stays the caller's to close.
        scopes: What every request needs; endpoints may need more.
        applications: On whose behalf callers may act; ``None`` does not look at it.
        public_paths: What needs no token: see :class:`~agent_client.verification.public_paths.PublicPaths`. A token
            that comes with such a request is not looked at. A preflight request of CORS has no token, so that
            middleware goes outside of this one.
        realm: The ``realm`` of challenges; without it and without metadata, it is the verifier's audience, for a
            challenge has at least one parameter (RFC 6750 section 3).
        resource_metadata: The metadata of the API, which is then served at its path to everybody; or its URL, where
            something else serves it. Challenges name the URL.
        certificate_of: Where the caller's certificate comes from.
        end_websockets_at_expiry: Close a websocket when its token expires.

    Raises:
        TypeError: One string is given for several.
        ValueError: A path of ``public_paths`` could be read in two ways.
    """

    def __init__(
        self,
        app: AsgiApp,
        verifier: TokenVerifier,
        *,
        scopes: Collection[str] = (),
        applications: Collection[str] | None = None,
        public_paths: Collection[str] = (),
        realm: str | None = None,
        resource_metadata: ResourceMetadata | str | None = None,
        certificate_of: CertificateOf = tls_extension_certificate,
        end_websockets_at_expiry: bool = True,
    ) -> None:
        if isinstance(scopes, str) or isinstance(applications, str):
            raise TypeError("scopes and applications are lists")
        self._app = app
        self._verifier = verifier
        self._scopes = tuple(scopes)
        self._applications = applications
        self._public = PublicPaths(public_paths)
        self._certificate_of = certificate_of
        self._end_websockets = end_websockets_at_expiry
        self._metadata = resource_metadata if isinstance(resource_metadata, ResourceMetadata) else None
        url = resource_metadata.url if isinstance(resource_metadata, ResourceMetadata) else resource_metadata
        self._refusals = HttpRefusals(verifier.audience if realm is None and url is None else realm, url)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection.

        Raises:
            ValueError: It is of a kind that is not known here, so that nobody could say who may have it.
        """
        if scope["type"] == "http":
            if self._metadata is not None and self._metadata.path in {route_path(scope), scope["path"]}:
                await send_answer(send, metadata_answer(self._metadata, scope["method"]))
            else:
                await self._serve(HttpConnection(scope, receive, send, self._refusals), self._run)
        elif scope["type"] == "websocket":
            await self._serve(WebsocketConnection(scope, receive, send, self._refusals), self._run_websocket)
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        else:
            raise ValueError("this kind of ASGI connection is not known, and not let through")

    async def _serve(self, connection: Connection, run: Callable[[Connection, VerifiedToken], Awaitable[None]]) -> None:
        """Verify the token and let the application serve; refuse, when either asks for it."""
        scope = connection.scope
        try:
            path = route_path(scope)
            if path is not None and path in self._public:
                await self._app(scope, connection.receive, connection.send)
                return
            try:
                token = connection.token = await self._verified(scope)
                token.require(*self._scopes)
            except VerificationError as error:
                await connection.refuse(error)
                return
            await run(connection, token)
        except (*RAISED_BY_HANDLERS, NoCurrentToken) as raised:
            if not await connection.refuse_for(raised):
                raise

    async def _verified(self, scope: Scope) -> VerifiedToken:
        """Return the token of a request.

        Raises:
            VerificationError: It has none that is good here.
        """
        # Names are in lower case by the ASGI specification; a server that forgets it must not hide a second header.
        values = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"authorization"]
        text = bearer_token(values)
        certificate = self._certificate_of(scope)
        return await self._verifier.verify_async(text, certificate=certificate, applications=self._applications)

    async def _run(self, connection: Connection, token: VerifiedToken) -> None:
        """Run the application with the token."""
        # Copies, as the ASGI specification wants it: the state of a server that gives every request the same one
        # would carry the token over to the next.
        scope = connection.scope
        inner = {**scope, "token": token, "state": {**(scope.get("state") or {}), "token": token}}
        call = ServedCall(token)
        try:
            with call:
                await self._app(inner, connection.receive, connection.send)
        finally:
            call.end()

    async def _run_websocket(self, connection: Connection, token: VerifiedToken) -> None:
        """Run the application, until the token expires."""
        limit = asyncio.timeout(seconds_until_end(token) if self._end_websockets else None)
        try:
            async with limit:
                await self._run(connection, token)
        except TimeoutError:
            if not limit.expired():
                raise
            await connection.refuse(TokenRejected(RejectionReason.EXPIRED))
