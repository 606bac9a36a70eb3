"""The paths of the public HTTP listener. All of them answer GET and HEAD; none reads a body or a cookie."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from issuer.public_http.documents import Document, json_answer

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from issuer.public_http.documents import Board
    from issuer.public_http.messages import Setup
    from issuer.public_http.status_documents import ShownLists

SECURITY_HEADERS = (
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("referrer-policy", "no-referrer"),
)
HTTPS_HEADERS = (("strict-transport-security", "max-age=31536000"),)


def public_app(setup: Setup, board: Board, lists: ShownLists) -> Starlette:
    """Return the ASGI application that shows ``board``, and status lists."""
    metadata = Document(setup.metadata.encode(), setup.max_age)
    alive = json_answer(200, {"alive": True})

    async def show_metadata(request: Request) -> Response:
        return metadata.answer(request)

    async def show_jwks(request: Request) -> Response:
        return board.jwks.answer(request)

    async def show_lists(request: Request) -> Response:
        return lists.aggregation.answer(request)

    async def show_list(request: Request) -> Response:
        found = lists.get(request.path_params["name"])
        if found is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return found.answer(request)

    async def show_alive(_: Request) -> Response:
        return alive

    async def show_readiness(_: Request) -> Response:
        return board.readiness

    app = Starlette(
        routes=[
            Route("/livez", show_alive),
            Route("/readyz", show_readiness),
            *(Route(unquote(path), show_jwks) for path in setup.jwks_paths),
            *(Route(unquote(path), show_metadata) for path in setup.metadata_paths),
            *(Route(unquote(path), show_lists) for path in setup.list_paths),
            *(Route(f"{unquote(path)}/{{name}}", show_list) for path in setup.list_paths),
        ],
        exception_handlers={HTTPException: _http_error, Exception: _server_error},
    )
    app.router.redirect_slashes = False  # it would redirect to whatever the Host header says
    return app


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - Starlette's own promise, for the type checker
    phrase = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    return json_answer(error.status_code, {"error": phrase}, dict(error.headers or {}))


async def _server_error(_: Request, __: Exception) -> Response:
    return json_answer(500, {"error": "internal_server_error"})
