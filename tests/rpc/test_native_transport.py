"""What the native transport alone does; what all do is in test_transport_*.py, run with --transport=native."""

from __future__ import annotations

import json
import socket
import ssl
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import grpc
import pytest
from support.http2_by_hand import GOAWAY, PING, RST_STREAM, RawHttp2, frame
from support.transport_server import DEADLINE, LIMITS, SERVICE, TransportServer, call

from issuer_testing.deadline import wait_until
from issuer_testing.spire.authority import Authority

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.native
ANY_STREAM = 2**31 - 1


def logged(server: TransportServer, event: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in server.log().splitlines()]
    return [line for line in lines if line["event"] == event]


def test_a_call_that_crosses_the_first_goaway_is_served(tmp_path: Path) -> None:
    """Two of them (RFC 9113 section 6.8): the first says only that no more calls are wanted."""
    with (
        TransportServer("native", tmp_path, max_connection_age=1.0) as server,
        RawHttp2(server, tmp_path) as client,
    ):
        first = client.read_until({GOAWAY})
        assert first is not None
        assert int.from_bytes(first.payload[:4], "big") == ANY_STREAM
        stream, content = client.call(f"/{SERVICE}/Echo", b"x")
        client.write(content)
        ping = client.read_until({PING})
        assert ping is not None
        client.write(frame(PING, 1, 0, ping.payload))
        last = client.read_until({GOAWAY})
        assert last is not None
        assert int.from_bytes(last.payload[:4], "big") == stream


def test_a_new_certificate_leaves_connections_alone(tmp_path: Path) -> None:
    with TransportServer("native", tmp_path) as server, server.channel() as channel:
        states: list[grpc.ChannelConnectivity] = []
        call(channel, "Echo")
        channel.subscribe(states.append)
        for _ in range(3):
            before = len(logged(server, "tls_changed"))
            server.show(server.issue_server())
            server.changed()
            wait_until(lambda: len(logged(server, "tls_changed")) > before, what="it changed", seconds=DEADLINE)  # noqa: B023
            assert call(channel, "Echo") == b"x"
        assert set(states) <= {grpc.ChannelConnectivity.READY}


def test_handshakes_that_fail_are_told_with_their_reason(tmp_path: Path) -> None:
    with TransportServer("native", tmp_path) as server:
        stranger = Authority("conformance.test").issue("spiffe://conformance.test/caller")
        with server.channel(stranger) as channel, pytest.raises(grpc.RpcError):
            call(channel, "Echo", timeout=2)
        wait_until(lambda: logged(server, "handshakes_failed"), what="it is told", seconds=DEADLINE)
        [told, *_] = logged(server, "handshakes_failed")
        assert "certificate" in str(told["last_error"])
        assert str(told["last_peer"]).startswith("ipv4:127.0.0.1:")


def test_a_flood_of_failed_handshakes_is_told_once_a_second_at_most(tmp_path: Path) -> None:
    with TransportServer("native", tmp_path) as server:
        began = time.monotonic()
        for _ in range(200):
            with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
                connection.recv(100)
        seconds = time.monotonic() - began
        assert 1 <= len(logged(server, "handshakes_failed")) <= 2 + seconds


def test_without_a_certificate_there_is_no_handshake(tmp_path: Path) -> None:
    with TransportServer("native", tmp_path) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE) as connection,
            pytest.raises((ssl.SSLError, ConnectionError)),
            context.wrap_socket(connection) as secured,
        ):
            secured.recv(1)  # in TLS 1.3 the refusal comes after the client's own part


def test_calls_that_are_reset_before_they_are_seen_end_the_connection_when_they_are_too_many(tmp_path: Path) -> None:
    """CVE-2023-44487: in one write, so that the server sees them and their ends at once."""
    with TransportServer("native", tmp_path) as server, RawHttp2(server, tmp_path) as client:
        flood = b""
        for _ in range(2000):
            stream, content = client.call(f"/{SERVICE}/Sleep", b"")
            flood += content + frame(RST_STREAM, 0, stream, (8).to_bytes(4, "big"))
        with suppress(OSError):  # the connection may end before all of it is written
            client.write(flood)
            client.write(frame(PING, 0, 0, b"stillup?"))
            got = client.read_until({GOAWAY, PING})
            assert got is None or got.kind in {GOAWAY, PING}
        with server.channel() as other:
            assert call(other, "Echo") == b"x"
    assert len(server.events("started")) < LIMITS.max_concurrent_streams * 8
