"""All HTTP adapters, against a real server: they differ in their library, and in nothing else that is here."""

from __future__ import annotations

import asyncio
import logging
import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import BytesIO
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import aiohttp
import httpx
import pytest
from support.http_clients import CLIENTS, Aiohttp, Client, Options, Requests
from support.https import write_certificate
from support.numbered_tokens import SECRET, NumberedTokens, SyncNumberedTokens
from support.resource_server import ResourceServer, serving

from agent_client.adapters.aiohttp import TokenMiddleware
from agent_client.adapters.httpx import TokenAuth as HttpxAuth
from agent_client.adapters.requests import TokenAuth as RequestsAuth
from agent_client.errors import PolicyDenied
from agent_client.resource_errors import (
    InsecureTransport,
    ResourceRefused,
    ScopeInsufficient,
    StepUpRequired,
    TokenRefused,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOGETHER = 100


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[ResourceServer, ResourceServer]]:
    with serving() as server, serving() as other:
        yield server, other


@pytest.fixture
def server(servers: tuple[ResourceServer, ResourceServer]) -> ResourceServer:
    servers[0].forget()
    return servers[0]


@pytest.fixture
def thief(servers: tuple[ResourceServer, ResourceServer]) -> ResourceServer:
    """Another origin."""
    servers[1].forget()
    return servers[1]


@pytest.fixture(params=CLIENTS, ids=lambda client: client.__name__)
def kind(request: pytest.FixtureRequest) -> type[Client]:
    kind: type[Client] = request.param
    return kind


def answering(server: ResourceServer, status: int, *challenges: str) -> str:
    return f"{server.origin}/answer?{urlencode({'status': status, 'challenge': challenges}, doseq=True)}"


def redirecting(server: ResourceServer, status: int, target: str) -> str:
    return f"{server.origin}/redirect?{urlencode({'status': status, 'to': target})}"


def tokens(server: ResourceServer) -> list[object]:
    return [asked.token for asked in server.asked]


async def test_presents_the_token_of_its_source(kind: type[Client], server: ResourceServer) -> None:
    async with kind(Options()) as client:
        for _ in range(2):
            assert (await client.send("POST", server.origin, b"body")).text == "body"
    assert tokens(server) == [1, 1]
    assert client.source.issued == 1


async def test_tries_one_fresh_token_when_the_server_calls_one_invalid(
    kind: type[Client], server: ResourceServer
) -> None:
    server.refused = {1}
    async with kind(Options()) as client:
        assert await client.send("POST", server.origin, b"body") == (await client.send("POST", server.origin, b"body"))
    assert tokens(server) == [1, 2, 2]
    assert {asked.body for asked in server.asked} == {b"body"}


async def test_tries_no_third_token(kind: type[Client], server: ResourceServer) -> None:
    server.refused = {1, 2, 3}
    async with kind(Options()) as client:
        with pytest.raises(TokenRefused, match="and no fresh one helped") as refused:
            await client.send("GET", server.origin)
        assert refused.value.retried
        assert refused.value.status == 401
        # The next request begins with the second: a server that takes none has each of its requests ask for one more.
        with pytest.raises(TokenRefused):
            await client.send("GET", server.origin)
    assert tokens(server) == [1, 2, 2, 3]
    assert client.source.issued == 3


async def test_a_token_that_its_source_keeps_is_not_tried_twice(kind: type[Client], server: ResourceServer) -> None:
    server.refused = {1}
    async with kind(Options(connections=1)) as client:
        client.source.patient = True
        for _ in range(2):
            with pytest.raises(TokenRefused, match="and no fresh one helped"):
                await client.send("GET", server.origin)
    assert tokens(server) == [1, 1]


async def test_a_refused_body_that_is_gone_is_an_error_and_the_next_request_has_a_fresh_token(
    kind: type[Client], server: ResourceServer
) -> None:
    server.refused = {1}
    async with kind(Options()) as client:
        with pytest.raises(TokenRefused, match="body cannot be sent again") as refused:
            await client.send("POST", server.origin, client.once(b"one ", b"two"))
        assert not refused.value.retried
        assert (await client.send("POST", server.origin, client.once(b"one ", b"two"))).text == "one two"
    assert tokens(server) == [1, 2]


@pytest.mark.parametrize("kind", [Requests, Aiohttp], indirect=True)
async def test_a_file_is_sent_again_from_where_it_was(kind: type[Client], server: ResourceServer) -> None:
    server.refused = {1}
    file = BytesIO(b"header, then the rest")
    file.seek(8)
    async with kind(Options()) as client:
        assert (await client.send("POST", server.origin, file)).text == "then the rest"
    assert [asked.body for asked in server.asked] == [b"then the rest"] * 2


async def test_many_requests_that_are_refused_at_once_ask_for_one_fresh_token(
    kind: type[Client], server: ResourceServer
) -> None:
    server.refused, server.together = {1}, TOGETHER
    async with kind(Options(connections=TOGETHER)) as client:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(TOGETHER))
        replies = await asyncio.gather(*(client.send("GET", server.origin) for _ in range(TOGETHER)))
    assert {reply.status for reply in replies} == {200}
    assert client.source.issued == 2
    assert sorted(map(str, tokens(server))) == ["1"] * TOGETHER + ["2"] * TOGETHER


@pytest.mark.parametrize("status", [401, 403])
async def test_insufficient_scope_is_an_error_that_names_the_scopes(
    kind: type[Client], server: ResourceServer, status: int
) -> None:
    line = (
        'Basic realm="x", Bearer error="insufficient_scope", scope="ledger.write ledger.audit", '
        'error_description="not for readers", resource_metadata="https://ledger.prod.example/.well-known/x"'
    )
    async with kind(Options()) as client:
        with pytest.raises(ScopeInsufficient, match=r"ledger\.write ledger\.audit") as refused:
            await client.send("GET", answering(server, status, line))
    assert refused.value.scopes == ("ledger.write", "ledger.audit")
    assert refused.value.status == status
    assert refused.value.description == "not for readers"
    assert refused.value.resource_metadata == "https://ledger.prod.example/.well-known/x"
    assert line in {name.lower(): value for name, value in refused.value.headers}["www-authenticate"]
    assert client.source.issued == 1
    assert len(server.asked) == 1


async def test_a_step_up_challenge_is_an_error_that_says_what_is_wanted(
    kind: type[Client], server: ResourceServer
) -> None:
    lines = ("Negotiate", 'Bearer error="insufficient_user_authentication", acr_values="gold silver", max_age="300"')
    async with kind(Options()) as client:
        with pytest.raises(StepUpRequired) as refused:
            await client.send("GET", answering(server, 401, *lines))
    assert refused.value.acr_values == ("gold", "silver")
    assert refused.value.max_age == timedelta(minutes=5)
    assert client.source.issued == 1


@pytest.mark.parametrize(
    ("status", "challenge"),
    [
        (401, "Bearer"),
        (401, 'Bearer error="invalid_request"'),
        (401, 'DPoP error="invalid_token"'),
        (401, 'Bearer error="invalid_token'),
        (403, 'Bearer error="invalid_token"'),
        (400, 'Bearer error="invalid_token"'),
        (200, 'Bearer error="insufficient_scope"'),
        (500, "Bearer"),
    ],
)
async def test_every_other_answer_is_the_callers(
    kind: type[Client], server: ResourceServer, status: int, challenge: str
) -> None:
    async with kind(Options()) as client:
        reply = await client.send("GET", answering(server, status, challenge))
    assert (reply.status, reply.text) == (status, "the server's own words")
    assert tokens(server) == [1]


async def test_a_connection_comes_back_after_every_kind_of_refusal(kind: type[Client], server: ResourceServer) -> None:
    """There is only one connection: whoever kept it would stop the next request."""
    kept = []  # the errors, since one that is forgotten takes its response with it
    async with kind(Options(connections=1)) as client:
        for number in (1, 3):
            server.refused = {number}
            assert (await client.send("POST", server.origin, b"body")).status == 200
            with pytest.raises(ScopeInsufficient) as insufficient:
                await client.send("GET", answering(server, 403, 'Bearer error="insufficient_scope"'))
            server.refused = {number + 1, number + 2}
            with pytest.raises(TokenRefused) as refused:
                await client.send("POST", server.origin, b"body")
            kept += [insufficient.value, refused.value]
    assert tokens(server) == [1, 2, 2, 2, 3, 3, 4, 4, 4, 5]


async def test_what_the_source_raises_is_raised_and_nothing_is_sent(kind: type[Client], server: ResourceServer) -> None:
    async with kind(Options()) as client:
        client.source.failure = PolicyDenied("no")
        with pytest.raises(PolicyDenied):
            await client.send("GET", server.origin)
    assert not server.asked


@pytest.mark.parametrize("url", ["http://ledger.prod.example/", "http://127.0.0.1.prod.example/", "http://10.0.0.1/"])
async def test_plain_http_gets_no_token(kind: type[Client], server: ResourceServer, url: str) -> None:
    async with kind(Options(proxy=server.origin)) as client:
        with pytest.raises(InsecureTransport, match="insecure_http"):
            await client.send("GET", url)
    assert client.source.issued == 0
    assert not server.asked


async def test_plain_http_gets_a_token_where_somebody_answers_for_it(
    kind: type[Client], server: ResourceServer
) -> None:
    async with kind(Options(proxy=server.origin, insecure_http=True)) as client:
        assert (await client.send("GET", "http://ledger.prod.example/")).status == 200
    assert tokens(server) == [1]


async def test_a_token_goes_over_tls_to_a_server_that_proved_itself_and_to_no_other(
    kind: type[Client], tmp_path: Path
) -> None:
    certificate = write_certificate(tmp_path)
    with serving(certificate=certificate) as server:
        async with kind(Options(trusted=certificate[0])) as client:
            assert (await client.send("POST", server.origin, b"body")).text == "body"
        async with kind(Options()) as client:
            with pytest.raises(client.failure):
                await client.send("GET", server.origin)
    assert tokens(server) == [1]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_another_origin_gets_no_token(
    kind: type[Client], server: ResourceServer, thief: ResourceServer, status: int
) -> None:
    async with kind(Options()) as client:
        reply = await client.send("GET", redirecting(server, status, thief.origin))
    assert reply.status == 200
    assert tokens(server) == [1]
    assert tokens(thief) == [None]


async def test_a_redirect_back_from_another_origin_shows_that_one_no_token(
    kind: type[Client], server: ResourceServer, thief: ResourceServer
) -> None:
    async with kind(Options()) as client:
        await client.send("GET", redirecting(server, 307, redirecting(thief, 307, server.origin)))
    assert tokens(thief) == [None]


async def test_another_origin_cannot_have_a_good_token_replaced(
    kind: type[Client], server: ResourceServer, thief: ResourceServer
) -> None:
    """It would otherwise make every request cost the issuer a token, and have the first origin asked again."""
    async with kind(Options()) as client:
        target = answering(thief, 401, 'Bearer error="invalid_token"')
        assert (await client.send("GET", redirecting(server, 307, target))).status == 401
    assert client.source.issued == 1
    assert len(server.asked) == len(thief.asked) == 1


async def test_after_a_redirect_only_what_was_refused_is_sent_again(kind: type[Client], server: ResourceServer) -> None:
    """The first request, a POST, has done its work."""
    server.refused, server.refused_paths = {1}, {"/receipt"}
    async with kind(Options()) as client:
        assert (await client.send("POST", redirecting(server, 303, "/receipt"), b"a payment")).status == 200
    assert [(asked.method, asked.path, asked.token) for asked in server.asked] == [
        ("POST", "/redirect", 1),
        ("GET", "/receipt", 1),
        ("GET", "/receipt", 2),
    ]


@pytest.mark.parametrize("kind", [Requests, Aiohttp], indirect=True)
async def test_after_a_redirect_that_needs_no_body_none_is_sent_again(
    kind: type[Client], server: ResourceServer
) -> None:
    server.refused, server.refused_paths = {1}, {"/receipt"}
    async with kind(Options()) as client:
        reply = await client.send("POST", redirecting(server, 303, "/receipt"), BytesIO(b"a payment"))
    assert reply.text == ""
    assert [asked.body for asked in server.asked] == [b"a payment", b"", b""]


async def test_a_redirect_within_the_origin_carries_the_token_that_was_taken(
    kind: type[Client], server: ResourceServer
) -> None:
    server.refused, server.refused_paths = {1}, {"/redirect"}
    async with kind(Options()) as client:
        assert (await client.send("GET", redirecting(server, 302, "/receipt"))).status == 200
    assert [(asked.path, asked.token) for asked in server.asked] == [
        ("/redirect", 1),
        ("/redirect", 2),
        ("/receipt", 2),
    ]


@pytest.mark.parametrize("refusal", ["invalid_token", "insufficient_scope", "insufficient_user_authentication"])
async def test_no_token_is_in_an_error_a_traceback_a_log_or_a_print(
    kind: type[Client], server: ResourceServer, caplog: pytest.LogCaptureFixture, refusal: str
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("aiohttp.client").debug("what is logged is seen here")
    async with kind(Options()) as client:
        with pytest.raises(ResourceRefused) as refused:
            await client.send("GET", answering(server, 401, f'Bearer error="{refusal}"'))
        shown = [repr(client.auth), str(client.auth), repr(vars(client.auth)), caplog.text]
    shown += traceback.TracebackException.from_exception(refused.value, capture_locals=True).format()
    assert "what is logged is seen here" in caplog.text
    assert SECRET not in "".join(shown)


@pytest.mark.parametrize("refusal", ["invalid_token", "insufficient_scope", "insufficient_user_authentication"])
async def test_an_error_shows_no_token_even_if_the_server_told_it_to_its_caller(
    kind: type[Client], server: ResourceServer, refusal: str
) -> None:
    line = f'Bearer error="{refusal}", error_description="no: TOKEN", scope="TOKEN", resource_metadata="TOKEN"'
    async with kind(Options()) as client:
        with pytest.raises(ResourceRefused) as refused:
            await client.send("GET", answering(server, 401, line))
    assert refused.value.description == "no: Bearer [token]"
    assert SECRET not in f"{refused.value} {refused.value!r} {vars(refused.value)} {refused.value.headers}"


async def test_a_source_of_the_other_kind_is_refused(server: ResourceServer) -> None:
    with httpx.Client(auth=HttpxAuth(NumberedTokens())) as client, pytest.raises(TypeError, match="SyncIssuerClient"):
        await asyncio.to_thread(client.get, server.origin)
    async with httpx.AsyncClient(auth=HttpxAuth(SyncNumberedTokens())) as other:
        with pytest.raises(TypeError, match=r" IssuerClient\.tokens_for"):
            await other.get(server.origin)
    with pytest.raises(TypeError, match="SyncIssuerClient"):
        RequestsAuth(NumberedTokens())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r" IssuerClient\.tokens_for"):
        TokenMiddleware(SyncNumberedTokens())  # type: ignore[arg-type]
    assert not server.asked


async def test_httpx_sends_a_stream_again_that_it_was_told_to_hold(server: ResourceServer) -> None:
    server.refused = {1}
    with httpx.Client(auth=HttpxAuth(SyncNumberedTokens())) as client:
        request = client.build_request("POST", server.origin, files={"file": BytesIO(b"content")})
        request.read()
        assert b"content" in (await asyncio.to_thread(client.send, request)).content
    assert tokens(server) == [1, 2]


async def test_aiohttp_gives_the_token_to_the_origins_that_are_named(
    server: ResourceServer, thief: ResourceServer
) -> None:
    named = TokenMiddleware(NumberedTokens(), origins=[f"{thief.origin}/some/path"])
    async with aiohttp.ClientSession(middlewares=[named]) as session:
        for origin in (server.origin, thief.origin):
            async with session.get(origin) as response:
                assert response.status == 200
    assert (tokens(server), tokens(thief)) == ([None], [1])


async def test_aiohttp_takes_only_absolute_urls_for_origins() -> None:
    with pytest.raises(TypeError, match=r"\['https://ledger'\]"):
        TokenMiddleware(NumberedTokens(), origins="https://ledger")
    with pytest.raises(ValueError, match="absolute"):
        TokenMiddleware(NumberedTokens(), origins=["ledger"])


async def test_aiohttp_is_not_pinned_by_a_request_that_was_refused_a_token(server: ResourceServer) -> None:
    async with aiohttp.ClientSession(middlewares=[TokenMiddleware(NumberedTokens())]) as session:
        with pytest.raises(InsecureTransport):
            await session.get("http://ledger.prod.example")
        async with session.get(server.origin) as response:
            assert response.status == 200
    assert tokens(server) == [1]


@pytest.mark.parametrize("size", [10, 10_000_000])
async def test_aiohttp_ends_an_upload_that_was_refused_before_it_begins_anew(server: ResourceServer, size: int) -> None:
    """It has the answer while the body is still on its way: two writers would read one file."""
    server.refused, server.early = {1}, True
    file = BytesIO(b"0123456789" * (size // 10))
    async with (
        aiohttp.ClientSession(middlewares=[TokenMiddleware(NumberedTokens())]) as session,
        session.post(server.origin, data=file) as response,
    ):
        assert await response.read() == b"0123456789" * (size // 10)
    assert tokens(server) == [1, 2]
