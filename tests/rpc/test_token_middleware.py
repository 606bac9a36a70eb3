"""The middleware in Starlette and FastAPI, behind a real uvicorn, spoken to over real sockets."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import pytest
import uvicorn
from fastapi import APIRouter, Depends, FastAPI
from fastapi.responses import StreamingResponse
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from support.guarded_api import READ, SETTLER, WRITE, Api, api
from support.minting import AUDIENCE

from agent_client.challenges import parse_challenges
from agent_client.verification import VerifiedToken
from agent_client.verification.asgi import TokenMiddleware
from agent_client.verification.current import current_token, requires
from agent_client.verification.request_errors import StepUpNeeded
from agent_client.verification.resource_metadata import ResourceMetadata
from issuer_testing.deadline import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from starlette.requests import Request

PUBLIC = ["/healthz", "/public/*"]


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with api(tmp_path_factory.mktemp("issuer") / "signing.pem") as ready:
        yield ready


@contextmanager
def serving(app: Any, **options: Any) -> Iterator[httpx.Client]:
    """Serve the application in a thread, and return a client of it."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="on", **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, what="uvicorn listens", seconds=30)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(timeout=30)


def with_token(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def challenge(response: httpx.Response) -> dict[str, str]:
    (one,) = parse_challenges([response.headers["www-authenticate"]])
    assert one.scheme == "Bearer"
    return dict(one.parameters)


# FastAPI

AFTERWARDS: list[str] = []


ROUTES = APIRouter()
Reader = Annotated[VerifiedToken, Depends(requires(READ))]


@ROUTES.get("/async")
async def asynchronous(token: Reader) -> dict[str, Any]:
    return {"subject": token.subject, "same": token is current_token()}


@ROUTES.get("/sync")
def synchronous(token: Reader) -> dict[str, Any]:
    return {"subject": token.subject, "same": token is current_token()}


@ROUTES.get("/settle")
async def settle(_: Annotated[VerifiedToken, Depends(requires(READ, WRITE))]) -> None: ...


@ROUTES.get("/sync/settle")
def settle_in_thread() -> None:
    current_token().require(WRITE)


@ROUTES.get("/deep/settle")
async def settle_deep_down() -> None:
    async with asyncio.TaskGroup():
        pass
    await _deep_down()


@ROUTES.get("/vault")
async def vault() -> None:
    raise StepUpNeeded(["urn:example:hardware"])


@ROUTES.get("/stream")
async def stream() -> StreamingResponse:
    async def parts() -> AsyncIterator[str]:
        for _ in range(3):
            await asyncio.sleep(0)
            yield current_token().token_id

    return StreamingResponse(parts())


@ROUTES.get("/background")
async def background() -> Response:
    def note() -> None:
        AFTERWARDS.append(current_token().token_id)

    return PlainTextResponse("ok", background=BackgroundTask(note))


@ROUTES.get("/broken")
async def broken() -> None:
    raise ZeroDivisionError


@ROUTES.get("/healthz")
async def healthz() -> str:
    return "ok"


@ROUTES.get("/public/private")
async def private(_: Annotated[VerifiedToken, Depends(requires(READ))]) -> None: ...


def fastapi_app() -> FastAPI:
    app = FastAPI()
    app.include_router(ROUTES)
    return app


async def _deep_down() -> None:
    await asyncio.sleep(0)
    current_token().require(WRITE)


def added(verifier: Any, **options: Any) -> Any:
    app = fastapi_app()
    app.add_middleware(TokenMiddleware, verifier=verifier, public_paths=PUBLIC, **options)
    return app


def around(verifier: Any, **options: Any) -> Any:
    return TokenMiddleware(fastapi_app(), verifier, public_paths=PUBLIC, **options)


def under_base_http_middleware(verifier: Any, **options: Any) -> Any:
    async def dispatch(request: Request, call_next: Callable[[Request], Any]) -> Any:
        return await call_next(request)

    app = fastapi_app()
    app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    app.add_middleware(TokenMiddleware, verifier=verifier, public_paths=PUBLIC, **options)
    return app


@pytest.fixture(scope="module", params=[added, around, under_base_http_middleware])
def client(request: pytest.FixtureRequest, ledger: Api) -> Iterator[httpx.Client]:
    """Each way of putting the middleware in front."""
    with serving(request.param(ledger.verifier, realm="ledger")) as client:
        yield client


@pytest.mark.parametrize("path", ["/async", "/sync"])
def test_endpoints_of_both_kinds_have_the_token(client: httpx.Client, ledger: Api, path: str) -> None:
    answer = client.get(path, headers=with_token(ledger.token()))
    assert answer.status_code == 200, answer.text
    assert (answer.json()["subject"], answer.json()["same"]) == (SETTLER, True)


@pytest.mark.parametrize("path", ["/settle", "/sync/settle", "/deep/settle"])
def test_a_scope_that_an_endpoint_misses_is_answered_403(client: httpx.Client, ledger: Api, path: str) -> None:
    answer = client.get(path, headers=with_token(ledger.token(READ)))
    assert answer.status_code == 403
    said = challenge(answer)
    assert (said["error"], WRITE in said["scope"].split()) == ("insufficient_scope", True)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["error"] == "insufficient_scope"
    assert client.get(path, headers=with_token(ledger.token(READ, WRITE))).status_code == 200


def test_a_step_up_is_answered_as_rfc_9470_says(client: httpx.Client, ledger: Api) -> None:
    answer = client.get("/vault", headers=with_token(ledger.token()))
    assert answer.status_code == 401
    assert challenge(answer)["error"] == "insufficient_user_authentication"
    assert challenge(answer)["acr_values"] == "urn:example:hardware"


def test_without_a_token_nothing_is_served_not_even_a_404(client: httpx.Client) -> None:
    for path in ("/async", "/nothing/here", "/openapi.json", "/docs"):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="ledger"')


def test_public_paths_are_served_and_guard_what_asks_for_a_token(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == "ok"
    answer = client.get("/public/private")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="ledger"')


def test_a_streamed_answer_and_a_background_task_have_the_token(client: httpx.Client, ledger: Api) -> None:
    assert client.get("/stream", headers=with_token(ledger.token(token_id="s-"))).text == "s-" * 3
    AFTERWARDS.clear()
    client.get("/background", headers=with_token(ledger.token(token_id="b-1")))
    wait_until(lambda: AFTERWARDS == ["b-1"], what="the background task ran", seconds=10)


def test_a_fault_of_the_application_stays_a_500(client: httpx.Client, ledger: Api) -> None:
    assert client.get("/broken", headers=with_token(ledger.token())).status_code == 500


def test_concurrent_requests_over_kept_connections_see_their_own_tokens(client: httpx.Client, ledger: Api) -> None:
    async def everybody() -> list[str]:
        async with httpx.AsyncClient(base_url=client.base_url, timeout=60) as many:
            tokens = [ledger.token(subject=f"spiffe://prod.example/sa/n{number}") for number in range(100)]
            paths = [("/async", "/sync")[number % 2] for number in range(100)]
            answers = await asyncio.gather(
                *(many.get(path, headers=with_token(token)) for path, token in zip(paths, tokens, strict=True))
            )
            return [answer.json()["subject"] for answer in answers]

    assert asyncio.run(everybody()) == [f"spiffe://prod.example/sa/n{number}" for number in range(100)]
    assert client.get("/async").status_code == 401, "the connection carries nothing over"


# Over the wire, byte for byte


def spoken(client: httpx.Client, text: str) -> str:
    """Send these bytes and return the first line of the answer."""
    address = (client.base_url.host, client.base_url.port or 80)
    with closing(socket.create_connection(address, timeout=30)) as connection:
        connection.sendall(text.replace("\n", "\r\n").encode("latin-1"))
        with connection.makefile("rb") as answer:
            return answer.readline().decode().strip()


@pytest.mark.parametrize(
    ("request_line", "headers", "status"),
    [
        ("GET /async", "Authorization: Bearer {t}\n", 200),
        ("GET /async", "AUTHORIZATION: bearer   {t}\n", 200),
        ("GET /async", "Authorization: Bearer {t}\nAuthorization: Bearer {t}\n", 400),
        ("GET /async", "Authorization: Basic eDp5\nauthorization: Bearer {t}\n", 400),
        ("GET /async", "Authorization: Bearer {t}, Basic eDp5\n", 400),
        ("GET /async", "Authorization: Bearer\t{t}\n", 400),
        ("GET /async", "Authorization: Bearer\n", 400),
        ("GET /async", "Authorization:\n", 401),
        ("GET /async?access_token={t}", "", 401),
        ("GET /public/../async", "", 401),
        ("GET /public/%2e%2e/async", "", 401),
        ("GET /public/..%2fasync", "", 401),
        ("GET /public//async", "", 401),
        ("GET //healthz", "", 401),
        ("GET /healthz/", "", 401),
        ("GET /%68ealthz", "", 401),
        ("GET /HEALTHZ", "", 401),
        ("GET /healthz;a=b", "", 401),
        ("GET http://127.0.0.1/healthz", "", 401),
        ("GET /healthz?a=/../async", "", 200),
        ("POST /async", "Authorization: Bearer {t}\nX-HTTP-Method-Override: GET\nContent-Length: 0\n", 405),
    ],
)
def test_tricks_on_the_wire(client: httpx.Client, ledger: Api, request_line: str, headers: str, status: int) -> None:
    text = f"{request_line} HTTP/1.1\nHost: ledger\nConnection: close\n{headers}\n"
    first_line = spoken(client, text.replace("{t}", ledger.token()))
    assert first_line.split()[1] == str(status), first_line


def test_a_folded_header_does_not_hide_a_second_token(client: httpx.Client, ledger: Api) -> None:
    folded = "GET /async HTTP/1.1\nHost: ledger\nConnection: close\nAuthorization: Bearer\n {t}\n {t}\n\n"
    assert spoken(client, folded.replace("{t}", ledger.token())).split()[1] == "400"


# Starlette


def starlette_app(ledger: Api) -> Any:
    async def whoami(request: Request) -> Response:
        token = current_token()
        return JSONResponse({"state": request.state.token is token, "scope": request.scope["token"] is token})

    inner = Starlette(
        routes=[Route("/whoami", whoami), Route("/healthz", _ok)],
        middleware=[Middleware(TokenMiddleware, verifier=ledger.verifier, public_paths=["/healthz"])],
    )
    return Starlette(routes=[Mount("/v1", inner), Route("/healthz", _ok), Route("/open", _ok)])


async def _ok(_: Request) -> Response:
    return PlainTextResponse("ok")


@pytest.mark.parametrize("root_path", ["", "/api"])
def test_public_paths_of_a_mounted_application_are_its_own(ledger: Api, root_path: str) -> None:
    with serving(starlette_app(ledger), root_path=root_path) as client:
        assert client.get("/v1/healthz").status_code == 200
        assert client.get("/v1/whoami").status_code == 401
        assert client.get("/v1/v1/healthz").status_code == 401
        assert client.get("/v1/healthz/../whoami").status_code == 401
        assert client.get("/open").status_code == 200, "beside the mounted application"
        answer = client.get("/v1/whoami", headers=with_token(ledger.token()))
        assert answer.json() == {"state": True, "scope": True}


def test_metadata_are_found_from_a_challenge(ledger: Api) -> None:
    metadata = ResourceMetadata.of(ledger.verifier, scopes_supported=[READ, WRITE], resource_name="The ledger")
    with serving(around(ledger.verifier, resource_metadata=metadata)) as client:
        url = challenge(client.get("/async"))["resource_metadata"]
        assert url == "https://ledger.prod.example/.well-known/oauth-protected-resource"
        path = httpx.URL(url).path
        document = client.get(path)
        assert document.json()["resource"] == AUDIENCE
        assert document.headers["cache-control"] == "public, max-age=300"
        head = client.head(path)
        assert (head.status_code, head.headers["content-length"]) == (200, str(len(document.content)))
        assert client.post(path).status_code == 405


def test_no_token_reaches_a_log(ledger: Api, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), serving(around(ledger.verifier)) as client:
        good, bad = ledger.token(READ), ledger.expired_token()
        for token in (good, bad):
            client.get("/settle", headers=with_token(token))
            client.get("/async", headers={"authorization": f"Bearer {token} {token}"})
    ours = [record.getMessage() for record in caplog.records if record.name == "agent_client.verification"]
    assert len(ours) == 4
    for token in (good, bad):
        assert not [part for part in token.split(".")[1:] if part in caplog.text]
