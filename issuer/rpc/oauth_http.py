"""Introspection and revocation over HTTP (RFC 7662, RFC 7009), by the same methods and pipeline as over gRPC.

What a caller is follows from the certificate that its connection presented, verified for each request as over gRPC
(``tls_client_auth``, RFC 8705 section 2.1). Nothing else says who calls.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from issuer.core.errors import FieldViolation, InvalidTokenRequest
from issuer.core.metadata import INTROSPECTION_PATH, REVOCATION_PATH
from issuer.rpc import oauth_answers
from issuer.rpc.asgi_messages import ClientGone
from issuer.rpc.asgi_peer import chain_of, peer_of
from issuer.rpc.call import Call
from issuer.rpc.held_calls import HeldCalls
from issuer.rpc.oauth_forms import MAX_FORM_BYTES, FormRefused, check_head, read_form, too_large
from issuer.rpc.pipeline import RpcFailed
from issuer_api.v1 import issuer_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from issuer.rpc.asgi_context import Send
    from issuer.rpc.asgi_messages import Receive
    from issuer.rpc.call import VerifiedCall
    from issuer.rpc.methods import IssuerMethods
    from issuer.rpc.oauth_answers import HttpAnswer
    from issuer.rpc.pipeline import Pipeline

    Endpoint = Callable[[dict[str, str], VerifiedCall], Awaitable[HttpAnswer]]

BODY_SECONDS: Final = 10.0
"""For a whole body, which is one packet or a few. A sender that drips holds a connection, and no more than so long."""
WITHIN_SECONDS: Final = 10.0
"""HTTP has no deadline: so long a caller is taken to wait."""
_SERVICE: Final = pb.DESCRIPTOR.services_by_name["IssuerService"].full_name


class OauthHttp:
    """An ASGI application with both endpoints.

    Args:
        methods: What IssuerService does.
        pipeline: The steps around each of them.

    Attributes:
        held: Requests wait in it for their answer.
    """

    def __init__(self, methods: IssuerMethods, pipeline: Pipeline) -> None:
        self._methods = methods
        self._pipeline = pipeline
        self._endpoints: dict[str, tuple[str, Endpoint]] = {
            INTROSPECTION_PATH: (f"{_SERVICE}/IntrospectToken", self._introspect),
            REVOCATION_PATH: (f"{_SERVICE}/RevokeToken", self._revoke),
        }
        self._open: set[asyncio.Task[Any]] = set()
        self.held = HeldCalls()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        task = asyncio.current_task()
        assert task is not None, "an ASGI server runs applications in tasks"  # noqa: S101 - a defect of ours
        self._open.add(task)
        try:
            answer = await self._answered(scope, receive)
            await self.held.wait()
            await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
            await send({"type": "http.response.body", "body": answer.body})
        except (ClientGone, OSError):  # the second is what ASGI has a server raise when the client has gone
            return
        finally:
            self._open.discard(task)

    def end_calls(self, _fault: object = None) -> None:
        """End every open request."""
        for task in tuple(self._open):
            task.cancel()

    async def _answered(self, scope: MutableMapping[str, Any], receive: Receive) -> HttpAnswer:
        if scope["path"] not in self._endpoints:
            return oauth_answers.not_found()
        method, endpoint = self._endpoints[scope["path"]]
        try:
            check_head(scope)
            form = read_form(await _body(receive))
            return await self._pipeline.answer(endpoint, form, _call(method, scope))
        except FormRefused as refusal:
            return oauth_answers.refused(refusal)
        except RpcFailed as failure:
            return oauth_answers.failed(failure.status)

    async def _introspect(self, form: dict[str, str], call: VerifiedCall) -> HttpAnswer:
        _note(form, call)
        message = pb.IntrospectTokenRequest(token=form["token"])
        return oauth_answers.introspected(await self._methods.introspect_token(message, call))

    async def _revoke(self, form: dict[str, str], call: VerifiedCall) -> HttpAnswer:
        _note(form, call)
        await self._methods.revoke_token(pb.RevokeTokenRequest(token=form["token"]), call)
        return oauth_answers.revoked()


def _note(form: dict[str, str], call: VerifiedCall) -> None:
    call.log_fields["transport"] = "http"
    # RFC 8705 section 2: with mutual TLS, clients name themselves as well. That it is they is the certificate's to say.
    if form.get("client_id", str(call.caller.spiffe_id)) != str(call.caller.spiffe_id):
        raise InvalidTokenRequest((FieldViolation("client_id", "is not the SPIFFE ID of the certificate"),))


def _call(method: str, scope: MutableMapping[str, Any]) -> Call:
    leaf, rest = chain_of(scope)
    return Call(method, peer_of(scope), leaf, rest, WITHIN_SECONDS)


async def _body(receive: Receive) -> bytes:
    """Return the body of a request.

    Raises:
        FormRefused: It is too large, or does not come.
        ClientGone: The client went away.
    """
    body, more = bytearray(), True
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while more:
                event = await receive()
                if event["type"] == "http.disconnect":
                    raise ClientGone
                body += event.get("body", b"")
                more = event.get("more_body", False)
                if len(body) > MAX_FORM_BYTES:
                    raise too_large()
    except TimeoutError:
        raise FormRefused(408, "invalid_request", "the body did not come in time") from None
    return bytes(body)
