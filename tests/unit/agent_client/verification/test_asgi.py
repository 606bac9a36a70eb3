"""The middleware as a server drives it, with scopes that no good server would make up as well."""
# ruff: noqa: ARG001 - an ASGI application takes three arguments, whichever it needs

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from support.asgi_client import Answer, ask, bearer, http_scope, websocket_scope
from support.guarded_api import ISSUER, READ, WRITE, KeysAway
from support.minting import AUDIENCE

from agent_client.verification import InsufficientScope, TokenVerifier
from agent_client.verification import asgi as asgi_module
from agent_client.verification.asgi import TokenMiddleware
from agent_client.verification.current import NoCurrentToken, current_token, requires
from agent_client.verification.request_errors import StepUpNeeded
from agent_client.verification.resource_metadata import ResourceMetadata
from issuer_testing.spire.authority import Authority

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from support.guarded_api import Api

    from agent_client.verification.asgi_connections import AsgiApp, Message, Receive, Scope, Send

CONNECT = {"type": "websocket.connect"}
DISCONNECT = {"type": "websocket.disconnect", "code": 1001}
ANSWERS_HANDSHAKES: dict[str, Any] = {"websocket.http.response": {}}


async def accounts(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with whose accounts these are."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": current_token().subject.encode()})


async def unreachable(scope: Scope, receive: Receive, send: Send) -> NoReturn:
    raise AssertionError("the application was reached")


async def public(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def raises(error: BaseException, *first: Message) -> AsgiApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in first:
            await send(message)
        raise error

    return app


def challenge(answer: Answer) -> str:
    return answer.header("www-authenticate") or ""


async def test_a_good_token_reaches_the_application(ledger: Api) -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await accounts(scope, receive, send)

    shared = {"pool": object()}
    scope = http_scope("/accounts", bearer(ledger.token()), state=shared)
    answer = await ask(TokenMiddleware(app, ledger.verifier), scope)
    assert (answer.status, answer.body) == (200, b"spiffe://prod.example/ns/payments/sa/settler")
    assert seen[0]["token"] is seen[0]["state"]["token"]
    assert seen[0]["state"]["pool"] is shared["pool"]
    assert "token" not in scope, "the server's own scope may serve the next request"
    assert "token" not in shared


REFUSED: list[tuple[str, Callable[[Api], list[tuple[bytes, bytes]]], int, str]] = [
    ("no header", lambda _: [], 401, 'Bearer realm="ledger"'),
    (
        "another scheme",
        lambda api: [(b"authorization", b"Basic " + api.token().encode())],
        401,
        'Bearer realm="ledger"',
    ),
    ("an empty header", lambda _: [(b"authorization", b"")], 401, 'Bearer realm="ledger"'),
    (
        "the same header twice",
        lambda api: [bearer(api.token())] * 2,
        400,
        (
            'Bearer realm="ledger", error="invalid_request", '
            'error_description="the request has more than one Authorization header"'
        ),
    ),
    (
        "a second header in other letters",
        lambda api: [bearer(api.token()), (b"Authorization", b"Basic eDp5")],
        400,
        (
            'Bearer realm="ledger", error="invalid_request", '
            'error_description="the request has more than one Authorization header"'
        ),
    ),
    (
        "no token behind the scheme",
        lambda _: [(b"authorization", b"Bearer ")],
        400,
        (
            'Bearer realm="ledger", error="invalid_request", '
            'error_description="the Authorization header is not the word Bearer and one token"'
        ),
    ),
    (
        "a tab behind the scheme",
        lambda api: [(b"authorization", b"Bearer\t" + api.token().encode())],
        400,
        (
            'Bearer realm="ledger", error="invalid_request", '
            'error_description="the Authorization header is not the word Bearer and one token"'
        ),
    ),
    (
        "two tokens with a comma",
        lambda api: [(b"authorization", f"Bearer {api.token()}, Bearer {api.token()}".encode())],
        400,
        (
            'Bearer realm="ledger", error="invalid_request", '
            'error_description="the Authorization header is not the word Bearer and one token"'
        ),
    ),
    (
        "a huge token",
        lambda _: [bearer("a" * 1_000_000)],
        400,
        'Bearer realm="ledger", error="invalid_request", error_description="the access token is larger than 16 KiB"',
    ),
    (
        "no JWS",
        lambda _: [bearer("abc")],
        401,
        (
            'Bearer realm="ledger", error="invalid_token", '
            'error_description="the token is no JWS in compact serialisation with a strict JSON header"'
        ),
    ),
    (
        "an expired token",
        lambda api: [bearer(api.expired_token())],
        401,
        'Bearer realm="ledger", error="invalid_token", error_description="the token has expired"',
    ),
    (
        "a token for another API",
        lambda api: [bearer(api.token(audience="https://other.prod.example"))],
        401,
        'Bearer realm="ledger", error="invalid_token", error_description="the token is for another audience"',
    ),
    (
        "a bound token without the certificate",
        lambda api: [bearer(api.token(bound_to=bytes(32)))],
        401,
        (
            'Bearer realm="ledger", error="invalid_token", '
            'error_description="the token is bound to a certificate, and the caller presented none"'
        ),
    ),
    (
        "a scope too few",
        lambda api: [bearer(api.token(WRITE))],
        403,
        (
            'Bearer realm="ledger", error="insufficient_scope", '
            'error_description="the token does not have every scope that is needed", scope="ledger.read"'
        ),
    ),
]


@pytest.mark.parametrize(
    ("headers", "status", "expected"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
async def test_each_refusal_before_the_application(
    ledger: Api, headers: Callable[[Api], list[tuple[bytes, bytes]]], status: int, expected: str
) -> None:
    middleware = TokenMiddleware(unreachable, ledger.verifier, scopes=[READ], realm="ledger")
    answer = await ask(middleware, http_scope("/accounts", *headers(ledger)))
    assert (answer.status, challenge(answer)) == (status, expected)
    assert answer.header("cache-control") == "no-store"
    assert answer.problem["status"] == status


async def test_no_refusal_says_anything_of_the_token(ledger: Api, caplog: pytest.LogCaptureFixture) -> None:
    middleware = TokenMiddleware(unreachable, ledger.verifier, scopes=["nobody.has.this"])
    for token in (ledger.token(), ledger.expired_token(), ledger.token()[:-6] + "AAAAAA"):
        with caplog.at_level(logging.DEBUG):
            answer = await ask(middleware, http_scope("/accounts", bearer(token)))
        said = repr(answer.sent) + caplog.text
        assert not [part for part in token.split(".") if part in said]


async def test_without_keys_the_caller_is_told_to_come_back() -> None:
    with TokenVerifier(ISSUER, AUDIENCE, keys=KeysAway()) as verifier:
        middleware = TokenMiddleware(unreachable, verifier)
        answer = await ask(middleware, http_scope("/accounts", bearer(_unsigned())))
    assert answer.status == 503
    assert int(answer.header("retry-after") or 0) >= 1
    assert answer.header("www-authenticate") is None
    assert b"10.9.8.7" not in answer.body


def _unsigned() -> str:
    """Return a token whose key has to be looked for."""
    return "eyJhbGciOiJFUzI1NiIsImtpZCI6IngiLCJ0eXAiOiJhdCtqd3QifQ.e30." + "A" * 86


async def test_a_token_in_query_or_body_is_no_token(ledger: Api) -> None:
    token = ledger.token()
    scope = http_scope(
        "/accounts",
        (b"content-type", b"application/x-www-form-urlencoded"),
        (b"cookie", b"access_token=" + token.encode()),
        (b"x-authorization", b"Bearer " + token.encode()),
        (b"proxy-authorization", b"Bearer " + token.encode()),
        method="POST",
        query_string=b"access_token=" + token.encode(),
    )
    body = {"type": "http.request", "body": b"access_token=" + token.encode(), "more_body": False}
    answer = await ask(TokenMiddleware(unreachable, ledger.verifier), scope, body)
    assert answer.status == 401
    assert "error" not in challenge(answer)


async def test_a_challenge_always_has_a_parameter(ledger: Api) -> None:
    """RFC 6750 section 3: the scheme is followed by at least one."""
    answer = await ask(TokenMiddleware(unreachable, ledger.verifier), http_scope())
    assert challenge(answer) == f'Bearer realm="{AUDIENCE}"'


async def test_an_application_that_has_no_business_here_is_refused(ledger: Api) -> None:
    middleware = TokenMiddleware(accounts, ledger.verifier, applications=["payments"])
    assert (await ask(middleware, http_scope("/", bearer(ledger.token(application="payments"))))).status == 200
    for application in ("billing", None):
        answer = await ask(middleware, http_scope("/", bearer(ledger.token(application=application))))
        assert answer.status == 403
        assert "scope=" not in challenge(answer)


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_bound_token_needs_its_certificate(ledger: Api, kind: str) -> None:
    leaf, other = (Authority("prod.example").issue("spiffe://prod.example/a").leaf for _ in range(2))
    token = ledger.token(bound_to=hashlib.sha256(leaf.public_bytes(Encoding.DER)).digest())
    for certificate, welcome in ((leaf, True), (other, False)):
        tls = {"client_cert_chain": [certificate.public_bytes(Encoding.PEM).decode()], "client_cert_error": None}
        make = http_scope if kind == "http" else websocket_scope
        scope = make("/", bearer(token), extensions={"tls": tls, **ANSWERS_HANDSHAKES})
        app = accounts if kind == "http" else greeting
        answer = await ask(TokenMiddleware(app, ledger.verifier), scope, CONNECT, DISCONNECT)
        assert ("start" in str(answer.kinds) and answer.status == 401) is not welcome, answer.sent


async def test_a_request_costs_no_thread_once_the_keys_are_there(ledger: Api) -> None:
    before = set(threading.enumerate())
    middleware = TokenMiddleware(accounts, ledger.verifier)
    assert (await ask(middleware, http_scope("/", bearer(ledger.token())))).status == 200
    assert set(threading.enumerate()) <= before
    assert asyncio.get_running_loop()._default_executor is None  # type: ignore[attr-defined]


# What endpoints raise


@pytest.mark.parametrize(
    ("error", "status", "expected"),
    [
        (InsufficientScope((WRITE,)), 403, 'error="insufficient_scope"'),
        (StepUpNeeded(["urn:gold"], timedelta(minutes=1)), 401, 'acr_values="urn:gold", max_age="60"'),
    ],
)
async def test_what_an_endpoint_raises_is_answered(ledger: Api, error: Exception, status: int, expected: str) -> None:
    answer = await ask(TokenMiddleware(raises(error), ledger.verifier), http_scope("/", bearer(ledger.token())))
    assert answer.status == status
    assert expected in challenge(answer)


async def test_an_answer_that_has_begun_is_not_answered_again(ledger: Api) -> None:
    begun = {"type": "http.response.start", "status": 200, "headers": []}
    middleware = TokenMiddleware(raises(InsufficientScope((WRITE,)), begun), ledger.verifier)
    with pytest.raises(InsufficientScope):
        await ask(middleware, http_scope("/", bearer(ledger.token())))


async def test_what_else_an_endpoint_raises_is_its_own(ledger: Api) -> None:
    for error in (ValueError("x"), NoCurrentToken("x"), KeyError("x")):
        with pytest.raises(type(error)):
            await ask(TokenMiddleware(raises(error), ledger.verifier), http_scope("/", bearer(ledger.token())))


async def test_the_error_page_of_a_refusal_is_replaced(ledger: Api) -> None:
    """Starlette's outermost layer sends 500 while it handles the exception, and only then passes it on."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            current_token().require(WRITE)
        except Exception:
            await send({"type": "http.response.start", "status": 500, "headers": []})
            await send({"type": "http.response.body", "body": b"traceback"})
            raise

    answer = await ask(TokenMiddleware(app, ledger.verifier), http_scope("/", bearer(ledger.token())))
    assert answer.status == 403
    assert b"traceback" not in answer.body


async def test_an_error_page_of_something_else_stays(ledger: Api) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(InsufficientScope):
            current_token().require(WRITE)
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": b"maintenance"})

    answer = await ask(TokenMiddleware(app, ledger.verifier), http_scope("/", bearer(ledger.token())))
    assert (answer.status, answer.body) == (503, b"maintenance")


# Public paths


async def test_public_paths_need_no_token_and_have_none(ledger: Api) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(NoCurrentToken):
            current_token()
        assert "token" not in scope
        await public(scope, receive, send)

    middleware = TokenMiddleware(app, ledger.verifier, public_paths=["/healthz"])
    for headers in ([], [bearer(ledger.token())], [(b"authorization", b"Bearer rubbish!")]):
        assert (await ask(middleware, http_scope("/healthz", *headers))).status == 204


@pytest.mark.parametrize("path", ["/healthz/../accounts", "//healthz", "/healthz/", "/HEALTHZ", "/healthz%00", "*", ""])
async def test_no_trick_makes_a_path_public(ledger: Api, path: str) -> None:
    middleware = TokenMiddleware(unreachable, ledger.verifier, public_paths=["/healthz", "/static/*"])
    assert (await ask(middleware, http_scope(path))).status == 401


async def test_a_public_path_that_asks_for_a_token_after_all_is_refused(ledger: Api) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await requires(READ)()

    middleware = TokenMiddleware(app, ledger.verifier, public_paths=["/healthz"])
    answer = await ask(middleware, http_scope("/healthz"))
    assert (answer.status, challenge(answer)) == (401, f'Bearer realm="{AUDIENCE}"')


# Metadata


async def test_metadata_are_served_to_everybody_and_named_in_challenges(ledger: Api) -> None:
    metadata = ResourceMetadata.of(ledger.verifier, scopes_supported=[READ])
    middleware = TokenMiddleware(unreachable, ledger.verifier, resource_metadata=metadata)
    answer = await ask(middleware, http_scope("/.well-known/oauth-protected-resource"))
    assert (answer.status, json.loads(answer.body)["resource"]) == (200, AUDIENCE)
    refused = await ask(middleware, http_scope("/.well-known/oauth-protected-resource/x"))
    assert challenge(refused) == f'Bearer resource_metadata="{metadata.url}"'


async def test_metadata_that_are_served_elsewhere_are_only_named(ledger: Api) -> None:
    url = "https://meta.prod.example/ledger"
    middleware = TokenMiddleware(unreachable, ledger.verifier, resource_metadata=url, realm="ledger")
    answer = await ask(middleware, http_scope("/.well-known/oauth-protected-resource"))
    assert challenge(answer) == f'Bearer realm="ledger", resource_metadata="{url}"'


# Kinds of connection


async def test_lifespan_passes_and_what_is_unknown_does_not(ledger: Api) -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    middleware = TokenMiddleware(app, ledger.verifier)
    await ask(middleware, {"type": "lifespan"})
    with pytest.raises(ValueError, match="not let through"):
        await ask(middleware, http_scope("/", type="webtransport"))
    assert seen == ["lifespan"]


@pytest.mark.parametrize("arguments", [{"scopes": READ}, {"applications": "payments"}, {"public_paths": "/healthz"}])
def test_one_string_is_no_list(ledger: Api, arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="list"):
        TokenMiddleware(accounts, ledger.verifier, **arguments)


# Websockets


async def greeting(scope: Scope, receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": current_token().subject})
    assert (await receive())["type"] == "websocket.disconnect"


async def test_a_websocket_with_a_good_token_is_let_through(ledger: Api) -> None:
    scope = websocket_scope("/feed", bearer(ledger.token()))
    answer = await ask(TokenMiddleware(greeting, ledger.verifier), scope, CONNECT, DISCONNECT)
    assert answer.kinds == ["websocket.accept", "websocket.send"]


async def test_a_websocket_is_refused_before_it_is_accepted(ledger: Api) -> None:
    middleware = TokenMiddleware(unreachable, ledger.verifier, realm="ledger")
    scope = websocket_scope("/feed", extensions=ANSWERS_HANDSHAKES)
    answer = await ask(middleware, scope, CONNECT)
    assert answer.kinds == ["websocket.http.response.start", "websocket.http.response.body"]
    assert (answer.status, challenge(answer)) == (401, 'Bearer realm="ledger"')


async def test_a_websocket_is_closed_where_the_server_cannot_answer(ledger: Api) -> None:
    middleware = TokenMiddleware(unreachable, ledger.verifier)
    answer = await ask(middleware, websocket_scope("/feed", bearer("rubbish")), CONNECT)
    assert answer.sent == [{"type": "websocket.close", "code": 1008, "reason": "invalid_token"}]


async def test_a_websocket_whose_caller_has_gone_is_told_nothing(ledger: Api) -> None:
    answer = await ask(TokenMiddleware(unreachable, ledger.verifier), websocket_scope("/feed"), DISCONNECT)
    assert answer.sent == []


async def test_an_accepted_websocket_is_closed_for_what_its_endpoint_raises(ledger: Api) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        current_token().require(WRITE)

    answer = await ask(TokenMiddleware(app, ledger.verifier), websocket_scope("/", bearer(ledger.token())), CONNECT)
    assert answer.sent[-1] == {"type": "websocket.close", "code": 1008, "reason": "insufficient_scope"}


async def test_a_closed_websocket_is_not_closed_again(ledger: Api) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.close", "code": 1000})
        current_token().require(WRITE)

    with pytest.raises(InsufficientScope):
        await ask(TokenMiddleware(app, ledger.verifier), websocket_scope("/", bearer(ledger.token())), CONNECT)


async def test_a_websocket_ends_with_its_token(ledger: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi_module, "seconds_until_end", lambda _: 0.01)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        try:
            await asyncio.Event().wait()
        finally:
            await send({"type": "websocket.send", "text": "bye"})

    answer = await ask(TokenMiddleware(app, ledger.verifier), websocket_scope("/", bearer(ledger.token())), CONNECT)
    assert answer.sent[-1] == {"type": "websocket.close", "code": 1008, "reason": "invalid_token"}


async def test_the_applications_own_time_limits_stay_its_own(ledger: Api) -> None:
    middleware = TokenMiddleware(raises(TimeoutError("mine")), ledger.verifier)
    with pytest.raises(TimeoutError, match="mine"):
        await ask(middleware, websocket_scope("/", bearer(ledger.token())), CONNECT)


# Contexts


async def test_each_of_many_concurrent_requests_sees_its_own_token(ledger: Api) -> None:
    everybody_is_in = asyncio.Event()
    inside = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal inside
        inside += 1
        if inside == 100:
            everybody_is_in.set()
        await everybody_is_in.wait()
        seen = {current_token().subject, await asyncio.to_thread(lambda: current_token().subject)}
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": " ".join(seen).encode()})

    middleware = TokenMiddleware(app, ledger.verifier)
    subjects = [f"spiffe://prod.example/sa/caller-{number}" for number in range(100)]
    scopes = [http_scope("/", bearer(ledger.token(subject=subject))) for subject in subjects]
    answers = await asyncio.gather(*(ask(middleware, scope) for scope in scopes))
    assert [answer.body.decode() for answer in answers] == subjects


async def test_after_the_request_nobody_has_its_token(ledger: Api) -> None:
    go_on = asyncio.Event()
    left: list[asyncio.Task[None]] = []

    async def later() -> None:
        current_token()
        await go_on.wait()
        current_token()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        left.append(asyncio.create_task(later()))
        await asyncio.sleep(0)
        await public(scope, receive, send)

    await ask(TokenMiddleware(app, ledger.verifier), http_scope("/", bearer(ledger.token())))
    with pytest.raises(NoCurrentToken, match="no request"):
        current_token()
    go_on.set()
    with pytest.raises(NoCurrentToken, match="has ended"):
        await left[0]


async def test_a_request_that_fails_leaves_no_token_behind(ledger: Api) -> None:
    with pytest.raises(ValueError, match="x"):
        await ask(TokenMiddleware(raises(ValueError("x")), ledger.verifier), http_scope("/", bearer(ledger.token())))
    with pytest.raises(NoCurrentToken):
        current_token()


async def test_a_verified_request_that_is_refused_is_logged_with_its_subject(
    ledger: Api, caplog: pytest.LogCaptureFixture
) -> None:
    middleware = TokenMiddleware(unreachable, ledger.verifier, scopes=[WRITE])
    with caplog.at_level(logging.INFO, "agent_client.verification"):
        await ask(middleware, http_scope("/accounts", bearer(ledger.token(token_id="jti-9"))))
        await ask(middleware, http_scope("/accounts", bearer(ledger.expired_token())))
    assert caplog.messages == [
        (
            "refused GET /accounts from 192.0.2.7: InsufficientScope, the token does not have every scope"
            " that is needed sub=spiffe://prod.example/ns/payments/sa/settler jti=jti-9"
        ),
        "refused GET /accounts from 192.0.2.7: EXPIRED, the token has expired",
    ]
