"""Both interceptors in front of real servers, over mutual TLS, with every kind of RPC and of handler."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from support.guarded_api import ISSUER, READ, WRITE, Api, KeysAway, api
from support.minting import AUDIENCE

from agent_client.verification import TokenVerifier, grpc_aio, grpc_sync
from agent_client.verification.current import NoCurrentToken, current_token
from agent_client.verification.grpc import SyncTokenInterceptor, TokenInterceptor
from agent_client.verification.request_errors import StepUpNeeded
from issuer_testing.deadline import wait_until
from issuer_testing.spire.authority import Authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from issuer_testing.spire.authority import IssuedSvid

SERVICE = "ledger.v1.LedgerService"
SCOPES = {f"/{SERVICE}/*": [READ], f"/{SERVICE}/Settle": [WRITE]}
PUBLIC = ["/grpc.health.v1.Health/*"]
DEADLINE = 30
AUTHORITY = Authority("prod.example")
SERVER = AUTHORITY.issue("spiffe://prod.example/ledger", dns_names=["localhost"])
CALLER = AUTHORITY.issue("spiffe://prod.example/caller")


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with api(tmp_path_factory.mktemp("issuer") / "signing.pem") as ready:
        yield ready


def whose() -> bytes:
    return current_token().subject.encode()


# Handlers: asynchronous, as coroutines that write to the context, and synchronous. They answer with whose call it is.


class Parsing:
    """A deserializer that counts: what is refused is not parsed."""

    calls = 0

    @classmethod
    def parse(cls, message: bytes) -> bytes:
        cls.calls += 1
        if message == b"unreadable":
            raise ValueError(message)
        return message


async def aio_unary(_: bytes, __: Any) -> bytes:
    await asyncio.sleep(0)
    return whose()


async def aio_stream(_: bytes, __: Any) -> AsyncIterator[bytes]:
    for _number in range(3):
        await asyncio.sleep(0)
        yield whose()


async def aio_collect(messages: AsyncIterator[bytes], _: Any) -> bytes:
    count = len([message async for message in messages])
    return b"%d %s" % (count, whose())


async def aio_chat(messages: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
    async for message in messages:
        yield message + b" " + whose()


async def writing_stream(_: bytes, context: Any) -> None:
    for _number in range(3):
        await context.write(whose())


async def writing_chat(_: Any, context: Any) -> None:
    while (message := await context.read()) is not grpc.aio.EOF:
        await context.write(message + b" " + whose())


def sync_unary(_: bytes, __: Any) -> bytes:
    return whose()


def sync_stream(_: bytes, __: Any) -> Iterator[bytes]:
    for _number in range(3):
        yield whose()


def sync_collect(messages: Iterator[bytes], _: Any) -> bytes:
    return b"%d %s" % (len(list(messages)), whose())


def sync_chat(messages: Iterator[bytes], _: Any) -> Iterator[bytes]:
    for message in messages:
        yield message + b" " + whose()


async def aio_raise(_: bytes, __: Any) -> bytes:
    raise StepUpNeeded(["urn:gold"])


def sync_raise(_: bytes, __: Any) -> bytes:
    raise StepUpNeeded(["urn:gold"])


async def aio_require(_: bytes, __: Any) -> AsyncIterator[bytes]:
    yield b"first"
    current_token().require("ledger.audit")


def sync_require(_: bytes, __: Any) -> Iterator[bytes]:
    yield b"first"
    current_token().require("ledger.audit")


ENDS: list[str] = []


async def aio_forever(_: bytes, __: Any) -> AsyncIterator[bytes]:
    try:
        yield b"first"
        await asyncio.Event().wait()
    finally:
        ENDS.append(current_token().token_id)


async def aio_deaf(messages: AsyncIterator[bytes], _: Any) -> bytes:
    async for _message in messages:
        pass
    return b"over"


def sync_ticking(_: bytes, __: Any) -> Iterator[bytes]:
    now_and_then = threading.Event()
    try:
        while not now_and_then.wait(0.005):
            yield b"tick"
    finally:
        ENDS.append(current_token().token_id)


def sync_deaf(messages: Iterator[bytes], _: Any) -> bytes:
    for _message in messages:
        pass
    return b"over"


AIO = {
    "Unary": aio_unary,
    "Stream": aio_stream,
    "Collect": aio_collect,
    "Chat": aio_chat,
    "Settle": aio_unary,
    "StepUp": aio_raise,
    "Require": aio_require,
    "Forever": aio_forever,
    "Deaf": aio_deaf,
}
SYNC = {
    "Unary": sync_unary,
    "Stream": sync_stream,
    "Collect": sync_collect,
    "Chat": sync_chat,
    "Settle": sync_unary,
    "StepUp": sync_raise,
    "Require": sync_require,
    "Forever": sync_ticking,
    "Deaf": sync_deaf,
}
KINDS: dict[str, Callable[..., Any]] = {
    "Stream": grpc.unary_stream_rpc_method_handler,
    "Require": grpc.unary_stream_rpc_method_handler,
    "Forever": grpc.unary_stream_rpc_method_handler,
    "Collect": grpc.stream_unary_rpc_method_handler,
    "Deaf": grpc.stream_unary_rpc_method_handler,
    "Chat": grpc.stream_stream_rpc_method_handler,
}


def handlers(behaviours: dict[str, Any], service: str = SERVICE) -> Any:
    made = {
        name: KINDS.get(name, grpc.unary_unary_rpc_method_handler)(behaviour, request_deserializer=Parsing.parse)
        for name, behaviour in behaviours.items()
    }
    return grpc.method_handlers_generic_handler(service, made)


def server_credentials() -> Any:
    return grpc.ssl_server_credentials(
        [(SERVER.key_pem(), SERVER.chain_pem())],
        root_certificates=AUTHORITY.root.public_bytes(Encoding.PEM),
        require_client_auth=True,
    )


def add_all(server: Any, behaviours: dict[str, Any]) -> int:
    server.add_generic_rpc_handlers((handlers(behaviours), handlers({"Unary": behaviours["Unary"]}, "other.v1.Other")))
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    return int(server.add_secure_port("127.0.0.1:0", server_credentials()))


@contextmanager
def sync_server(behaviours: dict[str, Any], verifier: TokenVerifier, **options: Any) -> Iterator[int]:
    interceptor = SyncTokenInterceptor(verifier, scopes=SCOPES, public=PUBLIC, **options)
    server = grpc.server(ThreadPoolExecutor(16), interceptors=[interceptor])
    port = add_all(server, behaviours)
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()


@contextmanager
def aio_server(behaviours: dict[str, Any], verifier: TokenVerifier, **options: Any) -> Iterator[int]:
    """Serve with grpc.aio in a thread; synchronous handlers run in its pool."""
    interceptor = TokenInterceptor(verifier, scopes=SCOPES, public=PUBLIC, **options)
    ports: list[int] = []
    stop: list[Callable[[], object]] = []

    async def serve() -> None:
        server = grpc.aio.server(ThreadPoolExecutor(16), interceptors=[interceptor])
        ports.append(add_all(server, behaviours))
        await server.start()
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(ended.set))
        await ended.wait()
        await server.stop(0)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        wait_until(lambda: bool(stop), what="the server serves", seconds=DEADLINE)
        yield ports[0]
    finally:
        stop[0]()
        thread.join(timeout=DEADLINE)
        assert not thread.is_alive()


SERVERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "aio": (aio_server, AIO),
    "aio, writing to the context": (aio_server, AIO | {"Stream": writing_stream, "Chat": writing_chat}),
    "aio, in its pool": (aio_server, SYNC),
    "sync": (sync_server, SYNC),
}


class Caller:
    """Calls methods by name, with whatever metadata."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def unary(self, method: str, *metadata: tuple[str, str], message: bytes = b"") -> bytes:
        answer: bytes = self._channel.unary_unary(f"/{method}")(message, metadata=metadata, timeout=DEADLINE)
        return answer

    def stream(self, method: str, *metadata: tuple[str, str]) -> Any:
        return self._channel.unary_stream(f"/{SERVICE}/{method}")(b"", metadata=metadata, timeout=DEADLINE)

    def collect(self, method: str, messages: Iterator[bytes], *metadata: tuple[str, str]) -> bytes:
        call = self._channel.stream_unary(f"/{SERVICE}/{method}")
        answer: bytes = call(messages, metadata=metadata, timeout=DEADLINE)
        return answer

    def chat(self, messages: Iterator[bytes], *metadata: tuple[str, str]) -> Any:
        return self._channel.stream_stream(f"/{SERVICE}/Chat")(messages, metadata=metadata, timeout=DEADLINE)

    def healthy(self) -> bool:
        request = health_pb2.HealthCheckRequest()
        answer = health_pb2_grpc.HealthStub(self._channel).Check(request, timeout=DEADLINE)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@contextmanager
def calling(port: int, svid: IssuedSvid = CALLER) -> Iterator[Caller]:
    credentials = grpc.ssl_channel_credentials(
        AUTHORITY.root.public_bytes(Encoding.PEM), svid.key_pem(), svid.chain_pem()
    )
    options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        yield Caller(channel)


@pytest.fixture(scope="module", params=SERVERS)
def port(request: pytest.FixtureRequest, ledger: Api) -> Iterator[int]:
    serve, behaviours = SERVERS[request.param]
    with serve(behaviours, ledger.verifier) as listening:
        yield listening


@pytest.fixture
def caller(port: int) -> Iterator[Caller]:
    with calling(port) as ready:
        yield ready


def bearer(token: str) -> tuple[str, str]:
    return "authorization", f"Bearer {token}"


def reason_of(error: grpc.RpcError) -> tuple[str, str, dict[str, str]]:
    """Return the status code, and the reason with its metadata."""
    status = rpc_status.from_call(error)
    info = ErrorInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    assert info.domain == "spiffe-issuer"
    return error.code().name, info.reason, dict(info.metadata)


def test_every_kind_of_rpc_has_the_token(caller: Caller, ledger: Api) -> None:
    token = bearer(ledger.token(subject="spiffe://prod.example/a"))
    assert caller.unary(f"{SERVICE}/Unary", token) == b"spiffe://prod.example/a"
    assert list(caller.stream("Stream", token)) == [b"spiffe://prod.example/a"] * 3
    assert caller.collect("Collect", iter([b"1", b"2"]), token) == b"2 spiffe://prod.example/a"
    said = list(caller.chat(iter([b"1", b"2"]), token))
    assert said == [b"1 spiffe://prod.example/a", b"2 spiffe://prod.example/a"]


def test_concurrent_calls_see_their_own_tokens(caller: Caller, ledger: Api) -> None:
    subjects = [f"spiffe://prod.example/sa/n{number}" for number in range(100)]
    tokens = [bearer(ledger.token(subject=subject)) for subject in subjects]

    def ask(number: int) -> set[bytes]:
        if number % 2:
            return {caller.unary(f"{SERVICE}/Unary", tokens[number])}
        return set(caller.stream("Stream", tokens[number]))

    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(ask, range(100))) == [{subject.encode()} for subject in subjects]


REFUSED: list[tuple[str, Callable[[Api], list[tuple[str, str]]], tuple[str, str, dict[str, str]]]] = [
    ("no metadata", lambda _: [], ("UNAUTHENTICATED", "TOKEN_MISSING", {})),
    ("another scheme", lambda _: [("authorization", "Basic eDp5")], ("UNAUTHENTICATED", "TOKEN_MISSING", {})),
    (
        "the token elsewhere",
        lambda api: [("token", api.token()), ("x-authorization", f"Bearer {api.token()}")],
        ("UNAUTHENTICATED", "TOKEN_MISSING", {}),
    ),
    (
        "two of them",
        lambda api: [bearer(api.token()), bearer(api.token())],
        ("UNAUTHENTICATED", "AUTHORIZATION_MALFORMED", {}),
    ),
    (
        "two in one",
        lambda api: [("authorization", f"Bearer {api.token()}, Bearer {api.token()}")],
        ("UNAUTHENTICATED", "AUTHORIZATION_MALFORMED", {}),
    ),
    ("no token", lambda _: [("authorization", "Bearer")], ("UNAUTHENTICATED", "AUTHORIZATION_MALFORMED", {})),
    ("expired", lambda api: [bearer(api.expired_token())], ("UNAUTHENTICATED", "TOKEN_REJECTED", {})),
    (
        "another audience",
        lambda api: [bearer(api.token(audience="https://other.prod.example"))],
        ("UNAUTHENTICATED", "TOKEN_REJECTED", {}),
    ),
    (
        "another certificate",
        lambda api: [bearer(api.token(bound_to=bytes(32)))],
        ("UNAUTHENTICATED", "TOKEN_REJECTED", {}),
    ),
    (
        "another scope",
        lambda api: [bearer(api.token("ledger.none"))],
        ("PERMISSION_DENIED", "SCOPE_INSUFFICIENT", {"scopes": READ}),
    ),
]


@pytest.mark.parametrize(("metadata", "expected"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_each_refusal_has_its_status_for_every_kind_of_rpc(
    caller: Caller,
    ledger: Api,
    metadata: Callable[[Api], list[tuple[str, str]]],
    expected: tuple[str, str, dict[str, str]],
) -> None:
    sent = metadata(ledger)
    calls: list[Callable[[], object]] = [
        lambda: caller.unary(f"{SERVICE}/Unary", *sent),
        lambda: list(caller.stream("Stream", *sent)),
        lambda: caller.collect("Collect", iter([b"1"]), *sent),
        lambda: list(caller.chat(iter([b"1"]), *sent)),
    ]
    for call in calls:
        with pytest.raises(grpc.RpcError) as refused:
            call()
        assert reason_of(refused.value) == expected
        details = str(refused.value)
        assert not [value for _, value in sent if len(value) > 40 and value.split(".")[-1] in details]


def test_nothing_is_parsed_before_the_token_is_verified(caller: Caller, ledger: Api) -> None:
    before = Parsing.calls
    for metadata in ([], [bearer(ledger.expired_token())]):
        with pytest.raises(grpc.RpcError):
            caller.unary(f"{SERVICE}/Unary", *metadata, message=b"unreadable")
        with pytest.raises(grpc.RpcError):
            list(caller.stream("Stream", *metadata))
    assert Parsing.calls == before


def test_what_cannot_be_parsed_ends_as_without_us(caller: Caller, ledger: Api) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        caller.unary(f"{SERVICE}/Unary", bearer(ledger.token()), message=b"unreadable")
    error: Any = failed.value
    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "Exception deserializing request!")


def test_a_method_needs_the_scopes_that_it_is_listed_with(caller: Caller, ledger: Api) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        caller.unary(f"{SERVICE}/Settle", bearer(ledger.token(READ)))
    assert reason_of(refused.value) == ("PERMISSION_DENIED", "SCOPE_INSUFFICIENT", {"scopes": WRITE})
    assert caller.unary(f"{SERVICE}/Settle", bearer(ledger.token(WRITE)))


def test_a_service_that_is_not_listed_is_not_served(caller: Caller, ledger: Api) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        caller.unary("other.v1.Other/Unary", bearer(ledger.token(READ, WRITE)))
    assert reason_of(refused.value) == ("PERMISSION_DENIED", "METHOD_NOT_LISTED", {})
    with pytest.raises(grpc.RpcError) as anonymous:
        caller.unary("other.v1.Other/Unary")
    assert reason_of(anonymous.value)[1] == "TOKEN_MISSING"


def test_health_is_public_where_it_is_listed(caller: Caller) -> None:
    assert caller.healthy()


def test_what_a_handler_raises_is_its_status(caller: Caller, ledger: Api) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        caller.unary(f"{SERVICE}/StepUp", bearer(ledger.token()))
    assert reason_of(refused.value) == ("FAILED_PRECONDITION", "STEP_UP_NEEDED", {"acrValues": "urn:gold"})


def test_a_stream_is_refused_in_the_middle(caller: Caller, ledger: Api) -> None:
    call = caller.stream("Require", bearer(ledger.token()))
    assert next(call) == b"first"
    with pytest.raises(grpc.RpcError) as refused:
        next(call)
    assert reason_of(refused.value) == ("PERMISSION_DENIED", "SCOPE_INSUFFICIENT", {"scopes": "ledger.audit"})


def test_a_bound_token_works_with_its_own_connection_alone(port: int, ledger: Api) -> None:
    thumbprint = hashlib.sha256(CALLER.leaf.public_bytes(Encoding.DER)).digest()
    token = bearer(ledger.token(bound_to=thumbprint))
    with calling(port) as right, calling(port, AUTHORITY.issue("spiffe://prod.example/caller")) as wrong:
        assert right.unary(f"{SERVICE}/Unary", token)
        assert right.collect("Collect", iter([b"1"]), token)
        with pytest.raises(grpc.RpcError) as refused:
            wrong.unary(f"{SERVICE}/Unary", token)
    assert reason_of(refused.value)[1] == "TOKEN_REJECTED"


@pytest.mark.parametrize(("serve", "behaviours"), [SERVERS["aio"], SERVERS["sync"]], ids=["aio", "sync"])
def test_without_keys_the_caller_is_told_when_to_come_back(serve: Any, behaviours: dict[str, Any], ledger: Api) -> None:
    with (
        TokenVerifier(ISSUER, AUDIENCE, keys=KeysAway()) as verifier,
        serve(behaviours, verifier) as port,
        calling(port) as caller,
        pytest.raises(grpc.RpcError) as refused,
    ):
        caller.unary(f"{SERVICE}/Unary", bearer(ledger.token()))
    assert reason_of(refused.value)[:2] == ("UNAVAILABLE", "KEYS_UNAVAILABLE")
    status = rpc_status.from_call(refused.value)
    retry = RetryInfo()
    assert status is not None
    assert status.details[1].Unpack(retry)
    assert retry.retry_delay.ToTimedelta() > timedelta(0)
    assert "10.9.8.7" not in status.message


# Streams and the end of tokens


@pytest.fixture
def short_lived(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every stream's token end almost at once."""
    for module in (grpc_aio, grpc_sync):
        monkeypatch.setattr(module, "seconds_until_end", lambda _: 0.2)
    monkeypatch.setattr(grpc_sync, "_PATIENCE_SECONDS", 0.2)


ENDING = pytest.mark.parametrize(
    ("serve", "behaviours"), [SERVERS["aio"], SERVERS["aio, in its pool"], SERVERS["sync"]], ids=["aio", "pool", "sync"]
)


@ENDING
@pytest.mark.usefixtures("short_lived")
def test_a_stream_of_answers_ends_with_its_token(serve: Any, behaviours: dict[str, Any], ledger: Api) -> None:
    ENDS.clear()
    with serve(behaviours, ledger.verifier) as port, calling(port) as caller:
        call = caller.stream("Forever", bearer(ledger.token(token_id="forever")))
        with pytest.raises(grpc.RpcError) as ended:
            list(call)
        assert reason_of(ended.value) == ("UNAUTHENTICATED", "TOKEN_REJECTED", {})
        wait_until(lambda: ENDS == ["forever"], what="the handler has cleaned up, with its token", seconds=DEADLINE)
        assert caller.unary(f"{SERVICE}/Unary", bearer(ledger.token())), "a single message has no such end"


def silent(until: threading.Event) -> Iterator[bytes]:
    yield b"1"
    until.wait(DEADLINE)


@pytest.mark.parametrize(
    ("serve", "behaviours", "code"),
    [(*SERVERS["aio"], "UNAUTHENTICATED"), (*SERVERS["sync"], "CANCELLED")],
    ids=["aio", "sync"],
)
@pytest.mark.usefixtures("short_lived")
def test_a_caller_that_falls_silent_does_not_keep_its_stream(
    serve: Any, behaviours: dict[str, Any], code: str, ledger: Api
) -> None:
    over = threading.Event()
    with serve(behaviours, ledger.verifier) as port, calling(port) as caller:
        with pytest.raises(grpc.RpcError) as ended:
            caller.collect("Deaf", silent(over), bearer(ledger.token()))
        over.set()
    assert ended.value.code().name == code


@pytest.mark.parametrize(("serve", "behaviours"), [SERVERS["aio"], SERVERS["sync"]], ids=["aio", "sync"])
@pytest.mark.usefixtures("short_lived")
def test_streams_go_on_where_that_is_wanted(serve: Any, behaviours: dict[str, Any], ledger: Api) -> None:
    with (
        serve(behaviours, ledger.verifier, end_streams_at_expiry=False) as port,
        calling(port) as caller,
    ):
        go_on = threading.Timer(0.6, lambda: None)
        go_on.start()

        def slow() -> Iterator[bytes]:
            yield b"1"
            go_on.join()
            yield b"2"

        assert caller.collect("Collect", slow(), bearer(ledger.token())).startswith(b"2 ")


def test_a_call_that_its_caller_gives_up_leaves_nothing_behind(ledger: Api) -> None:
    ENDS.clear()
    with aio_server(AIO, ledger.verifier) as port, calling(port) as caller:
        call = caller.stream("Forever", bearer(ledger.token(token_id="given-up")))
        assert next(call) == b"first"
        call.cancel()
        wait_until(lambda: ENDS == ["given-up"], what="the handler has ended", seconds=DEADLINE)
    with pytest.raises(NoCurrentToken):
        current_token()


def test_refusals_are_logged_without_the_token(port: int, ledger: Api, caplog: pytest.LogCaptureFixture) -> None:
    token = ledger.token("ledger.none", token_id="jti-3")
    with caplog.at_level(logging.INFO, "agent_client.verification"), calling(port) as caller:
        for presented in (token, ledger.expired_token()):
            with pytest.raises(grpc.RpcError):
                caller.unary(f"{SERVICE}/Unary", bearer(presented))
    first, second = caplog.messages
    assert first.startswith(f"refused /{SERVICE}/Unary from ipv4:127.0.0.1:")
    assert first.endswith("jti=jti-3")
    assert second.endswith("EXPIRED, the token has expired")
    assert token.split(".")[1] not in caplog.text


def test_the_interceptors_refuse_rules_that_could_mean_everything(ledger: Api) -> None:
    for kind in (TokenInterceptor, SyncTokenInterceptor):
        with pytest.raises(ValueError, match="has no scopes"):
            kind(ledger.verifier, scopes={f"/{SERVICE}/*": []})
