"""Both transports as the clients of gRPC's own implementations meet them: C-core's, Go's, Node's, Java's.

One suite, which each client runs against each transport. Where transports or clients differ, the test says so.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import cache
from typing import TYPE_CHECKING

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from support.foreign_clients import PROGRAMS, ForeignClient
from support.transport_server import (
    DEADLINE,
    ENDLESS_ANSWER,
    LIMITS,
    ODD_TEXT,
    RETRY_AFTER,
    SERVICE,
    TransportServer,
    settled,
)

from issuer_testing.deadline import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.interop

MEBIBYTE = 1024 * 1024
LANGUAGES = ("grpcio", "go", "node")
Code = grpc.StatusCode
HEALTH = "/grpc.health.v1.Health"
HELPLESS_AFTER_A_FLOOD = {
    ("node", "h2corn"): "Node's http2 does not notice that its connection was reset: all its calls hang",
    ("go", "grpcio"): "grpcio's server refuses the next streams of that connection",
}
SERVING = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING).SerializeToString()


def number(code: grpc.StatusCode) -> int:
    return int(code.value[0])


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """What gives the command of a program, which is built when it is asked for first."""
    return cache(lambda language: PROGRAMS[language](tmp_path_factory.mktemp(language)))


@pytest.fixture(params=[*LANGUAGES, pytest.param("java", marks=pytest.mark.java)])
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def program(language: str, built: Callable[[str], list[str]]) -> list[str]:
    return built(language)


@pytest.fixture(scope="module")
def server(transport: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TransportServer]:
    with TransportServer(transport, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def client(program: list[str], server: TransportServer, tmp_path: Path) -> Iterator[ForeignClient]:
    with ForeignClient(program, server, tmp_path) as client:
        yield client


# Messages and limits.


def test_messages_of_every_size_come_back(client: ForeignClient) -> None:
    for size in (0, 1, 65_535, LIMITS.max_message_bytes):
        assert client.call("Echo", b"a" * size).answers == [b"a" * size]


def test_what_is_too_large_is_refused_and_the_connection_lives_on(client: ForeignClient) -> None:
    for method, message in (
        ("Echo", bytes(LIMITS.max_message_bytes + 1)),
        ("Echo", bytes(4 * MEBIBYTE)),
        ("Large", str(LIMITS.max_message_bytes + 1).encode()),
    ):
        assert client.call(method, message).code == number(Code.RESOURCE_EXHAUSTED)
    assert client.call("Echo", b"a").answers == [b"a"]


def test_metadata_over_the_limit_is_refused_and_the_connection_lives_on(client: ForeignClient) -> None:
    """Go's and Java's clients know grpcio's limit from its settings and keep to it, with statuses of their own."""
    code = client.call("Echo", b"a", metadata={"x-a": "a" * 20_000}).code
    assert code in {number(Code.RESOURCE_EXHAUSTED), number(Code.INTERNAL)}
    assert client.call("Echo", b"a", metadata={"x-a": "a" * 8_000}).answers == [b"a"]


def test_more_calls_at_once_than_one_connection_may_have_wait_for_their_turn(
    server: TransportServer, client: ForeignClient
) -> None:
    """grpcio's server refuses some: at its limit it counts for a moment streams that have ended. Not all ask again."""
    tally = client.call("Pause", b"x", lanes=3 * LIMITS.max_concurrent_streams, seconds=1.0).tally
    refused = [told for told in tally if told != "0 "]
    assert not refused or server.transport == "grpcio"
    assert tally["0 "] >= (2 if refused else 3) * LIMITS.max_concurrent_streams


def test_compression_is_grpcio_s_alone(server: TransportServer, client: ForeignClient) -> None:
    code = client.call("Echo", bytes(1000), gzip=True).code
    assert code == number(Code.OK if server.transport == "grpcio" else Code.UNIMPLEMENTED)
    assert client.call("Echo", bytes(1000)).code == 0


# Statuses.


def test_a_status_carries_its_text_and_its_metadata_byte_for_byte(client: ForeignClient) -> None:
    found = client.call("Fail", b"")
    assert (found.code, found.message) == (number(Code.FAILED_PRECONDITION), ODD_TEXT)
    assert (found.text, found.binary) == ("b", b"\0\xff%")


def test_error_details_say_why_and_when_to_come_back(client: ForeignClient) -> None:
    found = client.call("Refuse", b"")
    status = Status.FromString(found.status)
    info, retry = ErrorInfo(), RetryInfo()
    assert [detail.Unpack(into) for detail, into in zip(status.details, (info, retry), strict=True)] == [True, True]
    assert found.code == status.code == number(Code.RESOURCE_EXHAUSTED)
    assert found.message == status.message == "too much of it"
    assert (info.reason, info.metadata["requestId"]) == ("RATE_LIMITED", "request-1")
    assert retry.retry_delay.ToTimedelta() == RETRY_AFTER


def test_what_does_not_exist_is_unimplemented(client: ForeignClient) -> None:
    assert client.call("Nothing", b"").code == number(Code.UNIMPLEMENTED)
    assert client.call("/no.Service/Echo", b"").code == number(Code.UNIMPLEMENTED)


def test_a_method_that_breaks_is_unknown(client: ForeignClient) -> None:
    assert client.call("Break", b"").code == number(Code.UNKNOWN)


# Streams, deadlines, cancellation, flow control.


def test_streams_in_both_directions(client: ForeignClient) -> None:
    assert client.call("Count", b"500").answers == [str(number).encode() for number in range(500)]
    each = [b"a", b"", b"b" * 100_000, bytes(MEBIBYTE), b"c"]
    assert client.call("EchoEach", *each).answers == each


def test_deadlines_and_cancellation_reach_the_method(server: TransportServer, client: ForeignClient) -> None:
    for options, code in (({"timeout": 0.5}, Code.DEADLINE_EXCEEDED), ({"cancel": 0.5}, Code.CANCELLED)):
        started, cancelled = len(server.events("started")), len(server.events("cancelled"))
        assert client.call("Sleep", b"", **options).code == number(code)
        left = server.wait_for("started", after=started)["left"]
        assert 0 < left <= options.get("timeout", DEADLINE) + 0.2  # C-core rounds it
        server.wait_for("cancelled", after=cancelled)


def test_a_client_that_rests_stops_the_stream_that_it_does_not_read(
    server: TransportServer, client: ForeignClient
) -> None:
    """Flow control: at most the client's window, and what is buffered, is ever made; others go on.

    How large the window is is the client's to say; C-core's and Go's grow with what comes.
    """
    sent, cancelled = len(server.events("sent")), len(server.events("cancelled"))
    client.begin("Endless", b"", take=3, rest=2.0, timeout=60)
    server.wait_for("sent", after=sent)
    seen = settled(lambda: len(server.events("sent")))
    assert (seen - sent) * len(ENDLESS_ANSWER) < 32 * MEBIBYTE
    with server.channel() as other:
        assert other.unary_unary(f"/{SERVICE}/Echo")(b"x", timeout=10) == b"x"
    assert client.end().answers == [ENDLESS_ANSWER] * 3
    server.wait_for("cancelled", after=cancelled)


def test_a_flood_of_calls_that_are_cancelled_at_once_does_not_keep_others_out(
    server: TransportServer, client: ForeignClient, language: str
) -> None:
    """CVE-2023-44487 by a client that means no harm: on h2corn its connection ends for it, and it dials again."""
    memory = server.resident_bytes()
    started, cancelled = len(server.events("started")), len(server.events("cancelled"))
    client.begin("Sleep", b"", flood=3000)
    with server.channel() as other:
        for _ in range(20):
            assert other.unary_unary(f"/{SERVICE}/Echo")(b"x", timeout=5) == b"x"
    client.end()

    def all_have_ended() -> bool:
        return len(server.events("started")) - started == len(server.events("cancelled")) - cancelled

    wait_until(all_have_ended, what="every method that was started is cancelled", seconds=DEADLINE)
    assert server.resident_bytes() - memory < 64 * MEBIBYTE
    if (language, server.transport) not in HELPLESS_AFTER_A_FLOOD:
        wait_until(lambda: client.call("Echo", b"x", timeout=2).code == 0, what="it is served", seconds=DEADLINE)


# Health and reflection.


def test_health_is_told(client: ForeignClient) -> None:
    asked = health_pb2.HealthCheckRequest(service=SERVICE).SerializeToString()
    assert client.call(f"{HEALTH}/Check", asked).answers == [SERVING]
    assert client.call(f"{HEALTH}/Watch", asked, take=1, rest=0).answers == [SERVING]
    unknown = health_pb2.HealthCheckRequest(service="no.Service").SerializeToString()
    assert client.call(f"{HEALTH}/Check", unknown).code == number(Code.NOT_FOUND)


def test_reflection_lists_the_services(client: ForeignClient) -> None:
    asked = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    [answer] = client.call("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", asked).answers
    services = reflection_pb2.ServerReflectionResponse.FromString(answer).list_services_response.service
    assert SERVICE in {service.name for service in services}


# Connections.


def test_connections_that_are_told_to_go_while_they_are_in_use_lose_no_call(
    program: list[str], transport: str, tmp_path: Path
) -> None:
    """At their age; on h2corn, at each change of SVID or roots."""
    ages = {} if transport == "h2corn" else {"max_connection_age": 1.0}
    # On a busy machine a call may outlive the grace of grpcio's own age, which is no matter of this change.
    unavailable = {f"{number(Code.UNAVAILABLE)} "} if transport == "grpcio" else set()
    with (
        TransportServer(transport, tmp_path, **ages) as server,
        ForeignClient(program, server, tmp_path) as quick,
        ForeignClient(program, server, tmp_path) as slow,
    ):
        quick.begin("Echo", b"x", lanes=8, seconds=6.0)
        slow.begin("Pause", b"x", lanes=8, seconds=6.0)
        for _ in range(4):
            called = len(server.events("pausing"))
            server.show(server.issue_server())
            server.changed()
            server.wait_for("pausing", after=called + 16)  # twice in each lane: it has dialled again
        for client in (quick, slow):
            told = {text if text == "0 " else f"{text.partition(' ')[0]} " for text in client.end().tally}
            assert told - unavailable == {"0 "}


def test_a_client_that_asks_whether_the_server_is_there_is_answered(
    server: TransportServer, built: Callable[[str], list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Go asks every ten seconds at most, so all wait at once. One that got no answer would be UNAVAILABLE."""
    with ExitStack() as stack:
        clients = {}
        for language in LANGUAGES:
            client = ForeignClient(built(language), server, tmp_path_factory.mktemp(language), keepalive=10)
            clients[language] = stack.enter_context(client)
            client.begin("Sleep", b"", timeout=12.0)
        codes = {language: client.end().code for language, client in clients.items()}
    assert codes == dict.fromkeys(LANGUAGES, number(Code.DEADLINE_EXCEEDED))
