"""Both transports carry the same methods alike: told by grpcio's client, and by a client that writes frames by hand.

Go's client has a file of its own, since it needs Go. Where the transports differ, the test says so.
"""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import grpc
import pytest
from cryptography import x509
from support import http2_by_hand
from support.http2_by_hand import ENHANCE_YOUR_CALM, GOAWAY, PING, RawHttp2
from support.transport_server import (
    DEADLINE,
    ENDLESS_ANSWER,
    LIMITS,
    ODD_TEXT,
    SERVICE,
    TransportServer,
    call,
    failure,
    settled,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MEBIBYTE = 1024 * 1024
Code = grpc.StatusCode


@pytest.fixture(scope="module")
def server(transport: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TransportServer]:
    with TransportServer(transport, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def channel(server: TransportServer) -> Iterator[grpc.Channel]:
    with server.channel() as channel:
        yield channel


# What every call has.


def test_a_message_of_every_size_up_to_the_limit_comes_back(channel: grpc.Channel) -> None:
    for size in (0, 1, 16_384, 65_535, LIMITS.max_message_bytes):
        assert call(channel, "Echo", b"a" * size) == b"a" * size


def test_a_message_over_the_limit_is_refused_and_the_connection_lives_on(channel: grpc.Channel) -> None:
    for size in (LIMITS.max_message_bytes + 1, 64 * MEBIBYTE):
        assert failure(channel, "Echo", bytes(size)).code() is Code.RESOURCE_EXHAUSTED
    assert call(channel, "Echo") == b"x"


def test_an_answer_over_the_limit_is_refused(channel: grpc.Channel) -> None:
    size = str(LIMITS.max_message_bytes + 1).encode()
    assert failure(channel, "Large", size).code() is Code.RESOURCE_EXHAUSTED


def test_metadata_over_the_limit_is_refused_and_the_connection_lives_on(channel: grpc.Channel) -> None:
    assert failure(channel, "Echo", metadata=[("x-a", "a" * 20_000)]).code() is Code.RESOURCE_EXHAUSTED
    assert call(channel, "Echo", metadata=[("x-a", "a" * 8_000)]) == b"x"


def test_an_absurd_amount_of_metadata_ends_the_call_or_the_connection(server: TransportServer) -> None:
    """h2corn ends the connection: what it cannot decompress it cannot skip. Others are not touched."""
    with server.channel() as own, server.channel() as other:
        code = failure(own, "Echo", metadata=[("x-a", "a" * 400_000)]).code()
        assert code in {Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE}
        assert call(other, "Echo") == call(own, "Echo", wait_for_ready=True) == b"x"


def test_many_metadata_fields_are_limited_by_their_size_alone(channel: grpc.Channel) -> None:
    assert call(channel, "Echo", metadata=[(f"x-{number}", "a") for number in range(150)]) == b"x"


def test_the_peer_its_chain_and_metadata_reach_the_method(server: TransportServer) -> None:
    svid = server.authority.intermediate().issue("spiffe://conformance.test/chained")
    with server.channel(svid) as channel:
        answer = call(channel, "Peer", metadata=[("x-text", "t"), ("x-raw-bin", b"\0\xff")])
    found = json.loads(answer)
    leaf, *rest = svid.cert_chain
    assert found["peer"].startswith("ipv4:127.0.0.1:")
    assert loaded(found["chain"]["x509_pem_cert"]) == [leaf]
    assert loaded(found["chain"]["x509_pem_cert_chain"]) == rest
    assert found["metadata"] == [["x-text", "t"], ["x-raw-bin", "00ff"]]


def loaded(pem: str) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(pem.encode())


def test_a_status_carries_its_text_and_its_metadata_byte_for_byte(channel: grpc.Channel) -> None:
    error = failure(channel, "Fail")
    assert (error.code(), error.details()) == (Code.FAILED_PRECONDITION, ODD_TEXT)
    assert dict(error.trailing_metadata()) == {"x-detail-bin": b"\0\xff%", "x-a": "b"}


def test_what_does_not_exist_is_unimplemented(channel: grpc.Channel) -> None:
    assert failure(channel, "Nothing").code() is Code.UNIMPLEMENTED
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary("/no.Service/Echo")(b"", timeout=DEADLINE)
    assert error.value.code() is Code.UNIMPLEMENTED


def test_a_method_that_breaks_is_unknown(server: TransportServer, channel: grpc.Channel) -> None:
    error = failure(channel, "Break")
    assert error.code() is Code.UNKNOWN
    if server.transport == "h2corn":  # grpcio tells the caller; our own methods never get there, the pipeline answers
        assert "secret" not in error.details()


def test_a_message_that_cannot_be_read_is_refused(server: TransportServer, channel: grpc.Channel) -> None:
    expected = {"grpcio": Code.UNKNOWN}.get(server.transport, Code.INTERNAL)
    assert failure(channel, "Unreadable", b"abc").code() is expected


def test_compression_is_grpcio_s_alone(server: TransportServer, channel: grpc.Channel) -> None:
    """A compressed message is a way to make a server work for little: the second transport has none to offer."""
    if server.transport == "grpcio":
        assert call(channel, "Echo", bytes(1000), compression=grpc.Compression.Gzip) == bytes(1000)
    else:
        assert failure(channel, "Echo", bytes(1000), compression=grpc.Compression.Gzip).code() is Code.UNIMPLEMENTED


def test_no_message_and_two_messages_are_not_one(server: TransportServer, channel: grpc.Channel) -> None:
    """grpcio waits for the missing one until the deadline, and does not look at the second."""
    as_stream = channel.stream_stream(f"/{SERVICE}/Echo")
    for messages in ([], [b"a", b"b"]):
        if server.transport != "grpcio":
            with pytest.raises(grpc.RpcError) as error:
                list(as_stream(iter(messages), timeout=DEADLINE))
            assert error.value.code() is Code.UNIMPLEMENTED


# Streams, deadlines, cancellation.


def test_streams_in_both_directions(channel: grpc.Channel) -> None:
    answers = list(channel.unary_stream(f"/{SERVICE}/Count")(b"2000", timeout=DEADLINE))
    assert answers == [str(number).encode() for number in range(2000)]
    each = [b"a" * size for size in (0, 1, 100_000, 3)]
    assert list(channel.stream_stream(f"/{SERVICE}/EchoEach")(iter(each), timeout=DEADLINE)) == each


def test_answers_come_while_requests_are_still_sent(channel: grpc.Channel) -> None:
    given = threading.Event()

    def requests() -> Iterator[bytes]:
        yield b"first"
        assert given.wait(DEADLINE), "the answer to the first came before the second was sent"
        yield b"second"

    answers = channel.stream_stream(f"/{SERVICE}/EchoEach")(requests(), timeout=DEADLINE)
    assert next(answers) == b"first"
    given.set()
    assert next(answers) == b"second"


def test_the_deadline_reaches_the_method_and_ends_it(server: TransportServer, channel: grpc.Channel) -> None:
    started, cancelled = len(server.events("started")), len(server.events("cancelled"))
    assert failure(channel, "Sleep", timeout=0.5).code() is Code.DEADLINE_EXCEEDED
    assert 0 < server.wait_for("started", after=started)["left"] <= 0.5
    server.wait_for("cancelled", after=cancelled)


def test_without_a_deadline_there_is_none(server: TransportServer, channel: grpc.Channel) -> None:
    started = len(server.events("started"))
    pending = channel.unary_unary(f"/{SERVICE}/Sleep").future(b"")
    assert server.wait_for("started", after=started)["left"] is None
    pending.cancel()


def test_a_client_that_never_cancels_is_cut_at_its_deadline(server: TransportServer, tmp_path: Path) -> None:
    cancelled = len(server.events("cancelled"))
    with RawHttp2(server, tmp_path) as client:
        stream, content = client.call(f"/{SERVICE}/Sleep", b"", ("grpc-timeout", "300m"))
        client.write(content)
        assert client.ended(stream)
    server.wait_for("cancelled", after=cancelled)


@pytest.mark.parametrize("timeout", ["1", "x", "-1S", "123456789S", "1s"])
def test_a_malformed_timeout_is_not_taken_for_none(server: TransportServer, tmp_path: Path, timeout: str) -> None:
    """grpcio takes it for none; the second transport refuses the call. Either way it is answered."""
    with RawHttp2(server, tmp_path) as client:
        stream, content = client.call(f"/{SERVICE}/Echo", b"", ("grpc-timeout", timeout))
        client.write(content)
        assert client.ended(stream)


def test_a_cancelled_call_cancels_its_method(server: TransportServer, channel: grpc.Channel) -> None:
    started, cancelled = len(server.events("started")), len(server.events("cancelled"))
    pending = channel.unary_unary(f"/{SERVICE}/Sleep").future(b"", timeout=60)
    server.wait_for("started", after=started)
    pending.cancel()
    server.wait_for("cancelled", after=cancelled)


def test_a_lost_connection_cancels_its_methods(server: TransportServer, tmp_path: Path) -> None:
    started, cancelled = len(server.events("started")), len(server.events("cancelled"))
    with RawHttp2(server, tmp_path) as client:
        for _ in range(3):
            client.write(client.call(f"/{SERVICE}/Sleep", b"")[1])
        server.wait_for("started", after=started + 2)
    server.wait_for("cancelled", after=cancelled + 2)


# What a client can do to a server.


def test_what_is_no_grpc_call_is_refused(server: TransportServer, tmp_path: Path) -> None:
    with RawHttp2(server, tmp_path) as client:
        stream, content = client.call(f"/{SERVICE}/Echo", b"")
        client.write(content.replace(b"application/grpc", b"application/json"))
        assert client.ended(stream)
        stream, content = client.call(f"/{SERVICE}/Echo", b"")
        client.write(content.replace(b"\x04POST", b"\x04QUIT"))
        assert client.ended(stream)
        stream, content = client.call(f"/{SERVICE}/Echo", b"")
        client.write(content)
        assert client.ended(stream)


def test_a_request_that_ends_within_a_message_is_answered(server: TransportServer, tmp_path: Path) -> None:
    with RawHttp2(server, tmp_path) as client:
        for cut in (b"\0", b"\0\0\0\0\x09abc", b"\0\xff\xff\xff\xff", b"\x01\0\0\0\x01a", b"\x07\0\0\0\0"):
            stream, content = client.call(f"/{SERVICE}/Echo", None, ("grpc-timeout", "2S"))
            client.write(content + http2_by_hand.frame(http2_by_hand.DATA, http2_by_hand.END_STREAM, stream, cut))
            assert client.ended(stream), cut


def test_more_calls_at_once_than_one_connection_may_have_wait_for_their_turn(server: TransportServer) -> None:
    count = 4 * LIMITS.max_concurrent_streams
    with server.channel() as channel, ThreadPoolExecutor(count) as pool:
        call(channel, "Echo")  # the client knows the limit from here on
        before = len(server.events("pausing"))
        began = time.monotonic()
        assert list(pool.map(lambda _: patient_call(server, channel), range(count))) == [b"x"] * count
    assert len(server.events("pausing")) - before == count
    assert time.monotonic() - began >= 4 * 0.5  # four turns


def patient_call(server: TransportServer, channel: grpc.Channel) -> bytes:
    """Call again when grpcio's server refused a stream: at its limit it counts for a moment streams that have ended."""
    try:
        return call(channel, "Pause")
    except grpc.RpcError as error:
        if server.transport != "grpcio" or error.code() is not Code.UNAVAILABLE:
            raise
        return patient_call(server, channel)


def test_a_client_that_opens_more_streams_than_allowed_is_refused_them(server: TransportServer, tmp_path: Path) -> None:
    started = len(server.events("started"))
    with RawHttp2(server, tmp_path) as client:
        for _ in range(LIMITS.max_concurrent_streams + 8):
            client.write(client.call(f"/{SERVICE}/Sleep", b"")[1])
        refused = client.read_until({http2_by_hand.RST_STREAM, GOAWAY})
        assert refused is None or refused.kind in {http2_by_hand.RST_STREAM, GOAWAY}
    assert len(server.events("started")) - started <= LIMITS.max_concurrent_streams


def test_a_flood_of_calls_that_are_reset_at_once_is_stopped_and_others_are_served(
    server: TransportServer, tmp_path: Path
) -> None:
    """CVE-2023-44487. Bounded by what the server takes before it ends the connection, or by the seconds here."""
    memory, started = server.resident_bytes(), len(server.events("started"))
    with server.channel() as other, RawHttp2(server, tmp_path) as client:
        call(other, "Echo")
        until, worst = time.monotonic() + 3, 0.0
        with suppress(OSError):
            while time.monotonic() < until:
                for _ in range(100):
                    stream, content = client.call(f"/{SERVICE}/Sleep", b"")
                    client.write(content + http2_by_hand.reset(stream))
                began = time.monotonic()
                assert call(other, "Echo") == b"x"
                worst = max(worst, time.monotonic() - began)
    assert worst < 2
    assert len(server.events("started")) - started < 1000  # reset before it is begun
    assert server.resident_bytes() - memory < 64 * MEBIBYTE


def test_a_stall_whose_callers_all_give_up_ends_their_connection_on_h2corn(transport: str, tmp_path: Path) -> None:
    """A known gap: h2corn takes about 200 resets and then ends the connection, of honest clients as well."""
    with (
        TransportServer(transport, tmp_path, max_concurrent_streams=256) as server,
        RawHttp2(server, tmp_path) as client,
    ):
        streams = [client.call(f"/{SERVICE}/Sleep", b"") for _ in range(256)]
        client.write(b"".join(content for _, content in streams))
        server.wait_for("started", after=255)
        client.write(b"".join(http2_by_hand.reset(stream) for stream, _ in streams))
        client.write(http2_by_hand.frame(PING, 0, 0, b"stillup?"))
        while (got := client.read_until({PING, GOAWAY})) and got.kind == PING and not got.flags & http2_by_hand.ACK:
            pass
        assert got is not None
        assert got.kind == (GOAWAY if transport == "h2corn" else PING)
        server.wait_for("cancelled", after=255)


def test_a_flood_of_pings_holds_nothing(server: TransportServer, tmp_path: Path) -> None:
    memory = server.resident_bytes()
    with server.channel() as other, RawHttp2(server, tmp_path) as client:
        with suppress(OSError):
            for _ in range(200):
                client.write(http2_by_hand.frame(PING, 0, 0, bytes(8)) * 100)
        assert call(other, "Echo") == b"x"
    assert server.resident_bytes() - memory < 64 * MEBIBYTE


def test_a_keepalive_ping_is_answered(server: TransportServer, tmp_path: Path) -> None:
    with RawHttp2(server, tmp_path) as client:
        client.write(http2_by_hand.frame(PING, 0, 0, b"keepaliv"))
        pong = client.read_until({PING})
    assert pong is not None
    assert (pong.flags, pong.payload) == (http2_by_hand.ACK, b"keepaliv")


def test_pings_between_answers_are_no_flood(server: TransportServer, tmp_path: Path) -> None:
    """gRPC's clients measure their bandwidth by them."""
    with RawHttp2(server, tmp_path) as client:
        for _ in range(5):
            client.write(http2_by_hand.frame(PING, 0, 0, bytes(8)) * 3)
            stream, content = client.call(f"/{SERVICE}/Echo", b"x")
            client.write(content)
            assert client.ended(stream)


def test_the_third_ping_that_comes_too_early_ends_the_connection_but_on_h2corn(
    server: TransportServer, transport: str, tmp_path: Path
) -> None:
    with RawHttp2(server, tmp_path) as client:
        client.write(http2_by_hand.frame(PING, 0, 0, bytes(8)) * 4)
        if transport == "h2corn":
            answered = [client.read_until({PING, GOAWAY}) for _ in range(4)]
            assert [each and each.kind for each in answered] == [PING] * 4
            return
        told = client.read_until({GOAWAY})
        assert told is not None
        assert int.from_bytes(told.payload[4:8], "big") == ENHANCE_YOUR_CALM
        assert client.read_until(set()) is None


def test_a_client_that_does_not_read_stops_the_stream_that_it_does_not_read(
    server: TransportServer, tmp_path: Path
) -> None:
    """Flow control: at most its window, and what the transport buffers, is ever made."""
    sent, memory = len(server.events("sent")), server.resident_bytes()
    cancelled = len(server.events("cancelled"))
    with server.channel() as other, RawHttp2(server, tmp_path, window=100_000) as client:
        client.write(client.call(f"/{SERVICE}/Endless", b"")[1])
        server.wait_for("sent", after=sent)
        seen = settled(lambda: len(server.events("sent")))
        assert (seen - sent) * len(ENDLESS_ANSWER) < 4 * MEBIBYTE
        assert call(other, "Echo") == b"x"
        assert server.resident_bytes() - memory < 32 * MEBIBYTE
    server.wait_for("cancelled", after=cancelled)
    assert f"/{SERVICE}/Endless" not in server.log()  # no fault of ours


def test_answers_that_nobody_reads_are_bounded(server: TransportServer, tmp_path: Path) -> None:
    memory = server.resident_bytes()
    size = str(LIMITS.max_message_bytes).encode()
    with server.channel() as other, RawHttp2(server, tmp_path, window=0) as client:
        streams = [client.call(f"/{SERVICE}/Large", size) for _ in range(LIMITS.max_concurrent_streams)]
        client.write(b"".join(content for _, content in streams))
        assert call(other, "Echo") == b"x"
        settled(lambda: server.resident_bytes() // MEBIBYTE)
        held = server.resident_bytes() - memory
    assert held < 4 * LIMITS.max_concurrent_streams * LIMITS.max_message_bytes


def test_http_1_is_not_spoken(server: TransportServer, tmp_path: Path) -> None:
    with RawHttp2(server, tmp_path) as client:
        pass
    client = RawHttp2(server, tmp_path)
    client.write(b"GET / HTTP/1.1\r\nhost: conformance.test\r\n\r\n")
    answer = client._exactly(9)
    client._socket.close()
    assert answer is None or not answer.startswith(b"HTTP/1.1 2")
