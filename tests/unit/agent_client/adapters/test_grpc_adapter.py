"""The gRPC adapter on both kinds of channel, against a real server."""

from __future__ import annotations

import asyncio
import logging
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from support.grpc_clients import DEADLINE, GRPC_CLIENTS, GrpcClient
from support.grpc_resource_server import METHOD, error_info, serving_grpc
from support.https import write_certificate
from support.numbered_tokens import SECRET, NumberedTokens, SyncNumberedTokens

from agent_client.adapters.grpc import SyncTokenInterceptor, TokenInterceptor, call_credentials
from agent_client.errors import PolicyDenied
from agent_client.resource_errors import ResourceRefused, ScopeInsufficient, TokenRefused
from agent_client.workload_api_errors import NoIdentityIssued

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from google.rpc.error_details_pb2 import ErrorInfo
    from support.grpc_resource_server import GrpcResourceServer

    from agent_client.answers import IssuedToken

TOGETHER = 100
INSUFFICIENT = (
    grpc.StatusCode.PERMISSION_DENIED,
    error_info("SCOPE_INSUFFICIENT", scopes="ledger.write ledger.audit", resourceMetadata="https://ledger.example/x"),
)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server(certificate: tuple[Path, Path]) -> Iterator[GrpcResourceServer]:
    with serving_grpc(certificate) as server:
        yield server


@pytest.fixture(params=GRPC_CLIENTS, ids=lambda client: client.__name__)
def kind(request: pytest.FixtureRequest) -> type[GrpcClient]:
    kind: type[GrpcClient] = request.param
    return kind


@pytest.fixture
def trusted(certificate: tuple[Path, Path]) -> Path:
    return certificate[0]


async def test_presents_the_token_of_its_source(
    kind: type[GrpcClient], server: GrpcResourceServer, trusted: Path
) -> None:
    for intercepted in (True, False):
        async with kind(server.address, trusted, intercepted=intercepted) as client:
            assert [await client.call() for _ in range(2)] == [b"request"] * 2
            assert client.source.issued == 1
    assert server.tokens == [1] * 4


async def test_tries_one_fresh_token_when_the_server_rejects_one(
    kind: type[GrpcClient], server: GrpcResourceServer, trusted: Path
) -> None:
    server.refused = {1}
    async with kind(server.address, trusted) as client:
        assert [await client.call(timeout=None), await client.call()] == [b"request"] * 2
    assert server.tokens == [1, 2, 2]


async def test_tries_no_third_token(kind: type[GrpcClient], server: GrpcResourceServer, trusted: Path) -> None:
    server.refused = {1, 2}
    async with kind(server.address, trusted) as client:
        with pytest.raises(TokenRefused, match="and no fresh one helped") as refused:
            await client.call()
    assert (refused.value.status, refused.value.description) == (grpc.StatusCode.UNAUTHENTICATED.value[0], "not good")
    assert server.tokens == [1, 2]


async def test_a_token_that_its_source_keeps_is_not_tried_twice(
    kind: type[GrpcClient], server: GrpcResourceServer, trusted: Path
) -> None:
    server.refused = {1}
    async with kind(server.address, trusted) as client:
        client.source.patient = True
        with pytest.raises(TokenRefused, match="and no fresh one helped"):
            await client.call()
    assert server.tokens == [1]


async def test_a_second_call_has_only_the_time_that_the_first_left(
    kind: type[GrpcClient], server: GrpcResourceServer, trusted: Path
) -> None:
    server.refused, server.seconds_to_leave = {1}, 4.8
    async with kind(server.address, trusted) as client:
        await client.call(timeout=5)
    first, second = server.seconds_left
    assert 4.8 < first < 5.1
    assert second < 4.8


async def test_a_call_that_has_used_up_its_time_ends_with_it(
    kind: type[GrpcClient], server: GrpcResourceServer, trusted: Path
) -> None:
    server.refused, server.barrier = {1}, Barrier(2)  # nobody comes
    async with kind(server.address, trusted) as client:
        with pytest.raises(grpc.RpcError) as failed:
            await client.call(timeout=0.3)
        server.barrier.abort()
    assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_many_calls_that_are_rejected_at_once_ask_for_one_fresh_token(
    kind: type[GrpcClient], certificate: tuple[Path, Path]
) -> None:
    with serving_grpc(certificate, threads=TOGETHER) as server:
        server.refused, server.barrier = {1}, Barrier(TOGETHER)
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(TOGETHER))
        async with kind(server.address, certificate[0]) as client:
            answers = await asyncio.gather(*(client.call() for _ in range(TOGETHER)))
    assert answers == [b"request"] * TOGETHER
    assert client.source.issued == 2
    assert sorted(map(str, server.tokens)) == ["1"] * TOGETHER + ["2"] * TOGETHER


async def test_insufficient_scope_is_an_error_that_names_the_scopes(
    kind: type[GrpcClient], server: GrpcResourceServer, trusted: Path
) -> None:
    server.sends = INSUFFICIENT
    async with kind(server.address, trusted) as client:
        with pytest.raises(ScopeInsufficient, match=r"ledger\.write ledger\.audit") as refused:
            await client.call()
    assert refused.value.scopes == ("ledger.write", "ledger.audit")
    assert refused.value.status == grpc.StatusCode.PERMISSION_DENIED.value[0]
    assert refused.value.resource_metadata == "https://ledger.example/x"
    assert server.tokens == [1]


async def test_a_future_raises_the_same_errors(server: GrpcResourceServer, trusted: Path) -> None:
    server.refused = {1}
    source = SyncNumberedTokens()
    tls = grpc.ssl_channel_credentials(trusted.read_bytes())
    credentials = grpc.composite_channel_credentials(tls, call_credentials(source))
    with grpc.secure_channel(server.address, credentials) as plain:
        method = grpc.intercept_channel(plain, SyncTokenInterceptor(source)).unary_unary(METHOD)
        assert method.future(b"request", timeout=DEADLINE).result() == b"request"
        server.sends = INSUFFICIENT
        future = method.future(b"request", timeout=DEADLINE)
        with pytest.raises(ScopeInsufficient):
            future.result()
    assert server.tokens == [1, 2, 2]


@pytest.mark.parametrize(
    ("code", "info"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, error_info("TOKEN_MISSING", "spiffe-issuer")),
        (grpc.StatusCode.UNAUTHENTICATED, error_info("TOKEN_REJECTED", "other.example")),
        (grpc.StatusCode.UNAVAILABLE, error_info("KEYS_UNAVAILABLE", "spiffe-issuer")),
        (grpc.StatusCode.PERMISSION_DENIED, error_info("TOKEN_REJECTED", "spiffe-issuer")),
        (grpc.StatusCode.INTERNAL, error_info("SCOPE_INSUFFICIENT", "spiffe-issuer")),
    ],
)
async def test_every_other_status_is_the_callers(
    kind: type[GrpcClient],
    server: GrpcResourceServer,
    trusted: Path,
    code: grpc.StatusCode,
    info: ErrorInfo,
) -> None:
    server.sends = code, info
    async with kind(server.address, trusted) as client:
        with pytest.raises(grpc.RpcError) as failed:
            await client.call()
    assert failed.value.code() is code
    assert failed.value.details() == "not good"
    assert server.tokens == [1]


async def test_no_token_goes_over_a_channel_that_is_not_private() -> None:
    """gRPC sees to it; this pins that it does, in each way that one might try."""
    sync, aio = call_credentials(SyncNumberedTokens()), call_credentials(NumberedTokens())
    plain = grpc.experimental.insecure_channel_credentials()
    with serving_grpc(None) as server:
        with grpc.insecure_channel(server.address) as channel:
            await _fails_on_plain(channel, credentials=sync)
        with grpc.secure_channel(server.address, grpc.composite_channel_credentials(plain, sync)) as channel:
            await _fails_on_plain(channel)
        async with grpc.aio.insecure_channel(server.address) as channel:
            with pytest.raises(Exception, match="only valid on secure channels"):
                await channel.unary_unary(METHOD)(b"request", timeout=DEADLINE, credentials=aio)
        async with grpc.aio.secure_channel(server.address, grpc.composite_channel_credentials(plain, aio)) as channel:
            with pytest.raises(grpc.RpcError):
                await channel.unary_unary(METHOD)(b"request", timeout=DEADLINE)
    assert server.tokens == []


async def _fails_on_plain(channel: grpc.Channel, **settings: Any) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        await asyncio.to_thread(channel.unary_unary(METHOD), b"request", timeout=DEADLINE, **settings)
    assert failed.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_with_the_interceptor_what_the_source_raises_is_raised(
    kind: type[GrpcClient], server: GrpcResourceServer, trusted: Path
) -> None:
    async with kind(server.address, trusted) as client:
        client.source.failure = PolicyDenied("the policy says no")
        with pytest.raises(PolicyDenied):
            await client.call()
    assert server.tokens == []


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (PolicyDenied("the policy says no"), "the policy says no"),
        (NoIdentityIssued("no entry"), "no entry"),
        (RuntimeError(f"with a {SECRET}"), "RuntimeError"),
    ],
)
async def test_without_it_the_status_says_why_there_is_no_token(
    kind: type[GrpcClient],
    server: GrpcResourceServer,
    trusted: Path,
    failure: Exception,
    text: str,
) -> None:
    async with kind(server.address, trusted, intercepted=False) as client:
        client.source.failure = failure
        with pytest.raises(grpc.RpcError) as failed:
            await client.call()
    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    assert f"there is no token for this call: {text}" in failed.value.details()
    assert SECRET not in str(failed.value)
    assert server.tokens == []


async def test_a_source_whose_event_loop_has_ended_ends_the_call(server: GrpcResourceServer, trusted: Path) -> None:
    async def credentials_of_a_short_life() -> grpc.CallCredentials:
        return call_credentials(NumberedTokens())

    ended = await asyncio.to_thread(asyncio.run, credentials_of_a_short_life())
    tls = grpc.ssl_channel_credentials(trusted.read_bytes())
    async with grpc.aio.secure_channel(server.address, grpc.composite_channel_credentials(tls, ended)) as channel:
        with pytest.raises(grpc.RpcError) as failed:
            await channel.unary_unary(METHOD)(b"request", timeout=DEADLINE)
    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "the event loop of its source has ended" in failed.value.details()


async def test_waiting_for_a_token_blocks_neither_the_event_loop_nor_other_calls(
    server: GrpcResourceServer, trusted: Path
) -> None:
    """More calls wait than gRPC could have threads for, if each of them took one."""
    source = NumberedTokens()
    gate, waiting = asyncio.Event(), asyncio.Semaphore(0)

    class Slow:
        async def get(self) -> IssuedToken:
            waiting.release()
            await gate.wait()
            return await source.get()

        def invalidate(self, refused: IssuedToken) -> None:
            raise AssertionError

    tls = grpc.ssl_channel_credentials(trusted.read_bytes())
    credentials = grpc.composite_channel_credentials(tls, call_credentials(Slow()))
    async with grpc.aio.secure_channel(server.address, credentials) as channel:
        before = threading.active_count()
        calls = [channel.unary_unary(METHOD)(b"request", timeout=DEADLINE) for _ in range(TOGETHER)]
        answers = asyncio.gather(*calls)
        async with asyncio.timeout(DEADLINE):
            for _ in calls:
                await waiting.acquire()
        assert threading.active_count() - before < TOGETHER / 2
        gate.set()
        assert await answers == [b"request"] * TOGETHER
    assert source.issued == 1


async def test_no_token_is_in_an_error_a_traceback_a_log_or_a_print(
    kind: type[GrpcClient], server: GrpcResourceServer, trusted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The server tells its caller the token that it was sent, as careless ones do."""
    caplog.set_level(logging.DEBUG)
    shown = []
    for sends in (INSUFFICIENT, (grpc.StatusCode.UNAUTHENTICATED, error_info("TOKEN_REJECTED"))):
        server.sends, server.text = sends, "no: TOKEN"
        async with kind(server.address, trusted) as client:
            with pytest.raises(ResourceRefused) as refused:
                await client.call()
            shown += [repr(client.interceptor), repr(vars(client.interceptor)), repr(client.credentials)]
        error = refused.value
        assert error.description == "no: Bearer [token]"
        shown += [str(error), repr(error), repr(vars(error)), repr(error.headers), caplog.text]
    assert SECRET not in "".join(shown)


async def test_a_traceback_with_locals_shows_no_token(
    kind: type[GrpcClient], server: GrpcResourceServer, trusted: Path
) -> None:
    server.refused = {1, 2}
    async with kind(server.address, trusted) as client:
        with pytest.raises(TokenRefused) as refused:
            await client.call()
    caught = traceback.TracebackException.from_exception(refused.value, capture_locals=True)
    assert SECRET not in "".join(caught.format())


async def test_a_source_of_the_other_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="SyncIssuerClient"):
        SyncTokenInterceptor(NumberedTokens())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r" IssuerClient\.tokens_for"):
        TokenInterceptor(SyncNumberedTokens())  # type: ignore[arg-type]


async def test_a_source_for_an_event_loop_needs_one() -> None:
    source = NumberedTokens()
    with pytest.raises(RuntimeError, match="no running event loop"):
        await asyncio.to_thread(call_credentials, source)
