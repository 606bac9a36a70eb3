"""What becomes of connections and calls while certificates, roots and ages change, on both transports."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from support.http2_by_hand import END_STREAM, GOAWAY, HEADERS, RST_STREAM, RawHttp2
from support.transport_server import DEADLINE, DNS_NAME, LIMITS, SERVICE, FolderIdentity, TransportServer, call, failure

from issuer.log import open_log
from issuer.rpc.h2corn_listener import MAX_FINISHING, H2cornListener
from issuer.rpc.listener import CannotListen
from issuer_testing.deadline import wait_until
from issuer_testing.spire.authority import Authority, pem_bundle

Code = grpc.StatusCode
REFUSED_STREAM = 7


def test_connections_are_told_to_go_away_at_their_age_and_no_call_fails(transport: str, tmp_path: Path) -> None:
    with TransportServer(transport, tmp_path, max_connection_age=1.0) as server:
        with RawHttp2(server, tmp_path) as client:
            assert client.read_until({GOAWAY}) is not None
        with server.channel() as channel:
            until = time.monotonic() + 4
            while time.monotonic() < until:
                assert call(channel, "Echo") == b"x"


def test_a_stream_that_outlives_the_grace_is_ended(transport: str, tmp_path: Path) -> None:
    changes = {"max_connection_age": 1.0, "max_connection_age_grace": 1.0}
    with TransportServer(transport, tmp_path, **changes) as server, server.channel() as channel:
        assert failure(channel, "Sleep", timeout=60).code() is Code.UNAVAILABLE
        server.wait_for("cancelled")


def test_rotation_drops_no_call_and_new_handshakes_see_the_newest(transport: str, tmp_path: Path) -> None:
    with TransportServer(transport, tmp_path) as server, ThreadPoolExecutor() as pool:
        enough = threading.Event()

        def keep_calling(method: str) -> int:
            count = 0
            with server.channel() as channel:
                while not enough.is_set():
                    assert call(channel, method) == b"x"
                    count += 1
            return count

        callers = [pool.submit(keep_calling, method) for method in ("Echo", "Echo", "Pause", "Pause")]
        for _ in range(3):
            fresh = server.issue_server()
            server.show(fresh)
            server.changed()
            newest = fresh.leaf.serial_number
            wait_until(lambda: serial_shown(server, tmp_path) == newest, what="it is shown", seconds=DEADLINE)  # noqa: B023
        enough.set()
        assert all(caller.result() for caller in callers)


def test_a_call_that_crosses_a_goaway_is_refused_unbegun_and_those_before_it_end(tmp_path: Path) -> None:
    """All clients of gRPC make it again, unseen: its stream is above the GOAWAY's, and its code REFUSED_STREAM."""
    with TransportServer("h2corn", tmp_path) as server, RawHttp2(server, tmp_path) as client:
        before, content = client.call(f"/{SERVICE}/Pause", b"x")
        client.write(content)
        server.wait_for("pausing")
        server.show(server.issue_server())
        server.changed()
        goaway = client.read_until({GOAWAY})
        assert goaway is not None
        assert int.from_bytes(goaway.payload[:4], "big") == before
        crossing, content = client.call(f"/{SERVICE}/Pause", b"x")
        client.write(content)
        refused = client.read_until({RST_STREAM}, crossing)
        assert refused is not None
        assert int.from_bytes(refused.payload, "big") == REFUSED_STREAM
        assert client.ended(before)
        assert len(server.events("pausing")) == 1


def test_a_connection_in_use_is_not_closed_before_its_client_knows(tmp_path: Path) -> None:
    """Its call has its answer, and its status only after the GOAWAY: whoever knows it sends nothing any more."""
    with TransportServer("h2corn", tmp_path) as server, RawHttp2(server, tmp_path) as client:
        server.show(server.issue_server())
        server.changed()
        goaway, seen = None, 0
        while goaway is None:
            stream, content = client.call(f"/{SERVICE}/Echo", b"x")
            client.write(content)
            while (got := client.read_until({HEADERS, GOAWAY})) and not got.flags & END_STREAM:
                if got.kind == GOAWAY:
                    goaway = got
                    break
            seen += 1
        assert int.from_bytes(goaway.payload[:4], "big") == stream
        assert client.ended(stream)


def test_changes_faster_than_calls_end_still_end_with_the_newest(transport: str, tmp_path: Path) -> None:
    """Each server that still has a call waits for it; there are not as many of them as an outsider likes."""
    with TransportServer(transport, tmp_path, max_connection_age_grace=3.0) as server, ThreadPoolExecutor() as pool:
        for count in range(7):
            fresh = server.issue_server()
            server.show(fresh)
            server.changed()
            pool.submit(sleep_on_a_connection_of_its_own, server)
            server.wait_for("started", after=count)
        newest = fresh.leaf.serial_number
        wait_until(lambda: serial_shown(server, tmp_path) == newest, what="the newest is shown", seconds=20)
        if transport == "h2corn":
            finishing = [
                line["finishing"] for line in map(json.loads, server.log().splitlines()) if "finishing" in line
            ]
            assert max(finishing) <= MAX_FINISHING


def sleep_on_a_connection_of_its_own(server: TransportServer) -> None:
    with server.channel() as channel, suppress(grpc.RpcError):
        call(channel, "Sleep", timeout=15)


def test_stops_in_time_though_older_servers_have_calls(tmp_path: Path) -> None:
    with TransportServer("h2corn", tmp_path, max_connection_age_grace=60.0) as server, server.channel() as channel:
        pending = channel.unary_unary(f"/{SERVICE}/Sleep").future(b"", timeout=60)
        server.wait_for("started")
        server.show(server.issue_server())
        server.changed()
        wait_until(lambda: "tls_changed" in server.log(), what="another server is there", seconds=DEADLINE)
        began = time.monotonic()
        server._process.stdin.close()  # type: ignore[union-attr]
        server.wait_for("stopped")
        assert time.monotonic() - began < 8
        assert pending.exception().code() is Code.UNAVAILABLE


def serial_shown(server: TransportServer, folder: Path) -> int:
    with RawHttp2(server, folder) as client:
        der = client._socket.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


def test_roots_that_change_count_for_the_next_handshake(transport: str, tmp_path: Path) -> None:
    with TransportServer(transport, tmp_path) as server:
        other = Authority("conformance.test")
        guest = other.issue("spiffe://conformance.test/guest")
        assert not accepted(server, guest)
        server.show(server.issue_server(), pem_bundle([server.authority.root, other.root]))
        server.changed()
        wait_until(lambda: accepted(server, guest), what="the new root counts", seconds=DEADLINE)
        server.show(server.issue_server(), pem_bundle([server.authority.root]))
        server.changed()
        wait_until(lambda: not accepted(server, guest), what="it counts no more", seconds=DEADLINE)


def accepted(server: TransportServer, svid: Any) -> bool:
    with server.channel(svid) as channel:
        try:
            return call(channel, "Echo") == b"x"
        except grpc.RpcError as error:
            assert error.code() is Code.UNAVAILABLE  # noqa: PT017
            return False


def test_without_roots_nobody_is_let_in(transport: str, tmp_path: Path) -> None:
    with TransportServer(transport, tmp_path) as server:
        assert accepted(server, server.authority.issue("spiffe://conformance.test/a"))
        server.show(server.issue_server(), b"")
        server.changed()
        svid = server.authority.issue("spiffe://conformance.test/a")
        wait_until(lambda: not accepted(server, svid), what="nobody is let in", seconds=DEADLINE)


def test_material_that_cannot_be_used_changes_nothing(tmp_path: Path) -> None:
    """Of h2corn alone: with grpcio each handshake finds out for itself."""
    with TransportServer("h2corn", tmp_path) as server, server.channel() as channel:
        (tmp_path / "private_key").write_bytes(b"no key")
        server.changed()
        wait_until(lambda: "tls_change_refused" in server.log(), what="it is told", seconds=DEADLINE)
        assert "no key" not in server.log()
        assert call(channel, "Echo") == b"x"
        assert accepted(server, server.authority.issue("spiffe://conformance.test/a"))


def test_a_root_that_cannot_be_read_does_not_keep_the_server_from_its_next_certificate(tmp_path: Path) -> None:
    """Any federated trust domain may publish one."""
    unreadable = b"-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n"
    with TransportServer("h2corn", tmp_path) as server:
        fresh = server.issue_server()
        server.show(fresh, pem_bundle([server.authority.root]) + unreadable)
        server.changed()
        newest = fresh.leaf.serial_number
        wait_until(lambda: serial_shown(server, tmp_path) == newest, what="it is shown", seconds=DEADLINE)
        assert accepted(server, server.authority.issue("spiffe://conformance.test/a"))
        assert "tls_change_refused" in server.log()


def test_calls_in_flight_end_before_the_server_does(transport: str, tmp_path: Path) -> None:
    with TransportServer(transport, tmp_path) as server, server.channel() as channel:
        pending = [channel.unary_unary(f"/{SERVICE}/Pause").future(b"x", timeout=DEADLINE) for _ in range(8)]
        server.wait_for("pausing", after=7)
        server._process.stdin.close()  # type: ignore[union-attr]
        assert [each.result() for each in pending] == [b"x"] * 8
        server.wait_for("stopped")


def test_an_issuer_does_not_start_where_all_who_share_its_ca_would_be_shut_out(tmp_path: Path) -> None:
    """webpki cannot read such name constraints, and h2corn says nothing of handshakes that fail."""
    for permitted in (x509.UniformResourceIdentifier("conformance.test"), x509.DirectoryName(x509.Name([]))):
        constrained = Authority("conformance.test").intermediate(
            name_constraints=x509.NameConstraints([permitted], None)
        )
        server = TransportServer("h2corn", tmp_path)
        server.show(constrained.issue("spiffe://conformance.test/server"))
        listener = H2cornListener(LIMITS, identity=FolderIdentity(tmp_path), log=open_log("json", sys.stderr))
        listener.bind()
        with pytest.raises(CannotListen, match=r'name constraints.*: set \[server\] transport = "grpcio"'):
            asyncio.run(listener.start(()))
        asyncio.run(listener.stop(0))


def test_an_svid_whose_ca_shuts_callers_out_is_shown_and_told_of(tmp_path: Path) -> None:
    names = x509.NameConstraints([x509.UniformResourceIdentifier("conformance.test")], None)
    with TransportServer("h2corn", tmp_path) as server:
        constrained = server.authority.intermediate(name_constraints=names)
        fresh = constrained.issue("spiffe://conformance.test/server", dns_names=[DNS_NAME])
        server.show(fresh)
        server.changed()
        wait_until(lambda: "callers_shut_out" in server.log(), what="it is told", seconds=DEADLINE)
        assert 'transport = \\"grpcio\\"' in server.log()
        newest = fresh.leaf.serial_number
        wait_until(lambda: serial_shown(server, tmp_path) == newest, what="it is shown", seconds=DEADLINE)
        assert accepted(server, server.authority.issue("spiffe://conformance.test/a"))
        assert not accepted(server, constrained.issue("spiffe://conformance.test/a"))


def test_a_root_s_own_name_constraints_shut_nobody_out(transport: str, tmp_path: Path) -> None:
    """They are for our verification, of which there is none here; for h2corn, name and key of the root remain."""
    names = x509.NameConstraints([x509.UniformResourceIdentifier("conformance.test")], None)
    with TransportServer(transport, tmp_path) as server:
        constrained = Authority("conformance.test", name_constraints=names)
        server.show(server.issue_server(), pem_bundle([server.authority.root, constrained.root]))
        server.changed()
        svid = constrained.issue("spiffe://conformance.test/a")
        wait_until(lambda: accepted(server, svid), what="the new root counts", seconds=DEADLINE)
        assert accepted(server, constrained.intermediate().issue("spiffe://conformance.test/a"))
        assert accepted(server, server.authority.issue("spiffe://conformance.test/a"))
        assert not accepted(server, Authority("conformance.test").issue("spiffe://conformance.test/a"))


def test_silent_peers_are_looked_after_by_the_kernel(tmp_path: Path) -> None:
    """h2corn sends no pings. Timer 2 of an established connection in /proc/net/tcp is TCP's keepalive."""

    def timers(port: int) -> set[str]:
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return {line[5][:2] for line in lines if line[1].endswith(f":{port:04X}") and line[3] == "01"}

    with TransportServer("h2corn", tmp_path) as server, RawHttp2(server, tmp_path):
        wait_until(lambda: timers(server.port) == {"02"}, what="nothing but keepalive is waited for", seconds=DEADLINE)


def test_no_key_is_ever_in_a_file_of_the_server(tmp_path: Path) -> None:
    """It is given to h2corn by a file in memory, which is closed as soon as it is read."""
    with TransportServer("h2corn", tmp_path) as server, server.channel() as channel:
        assert call(channel, "Echo") == b"x"
        names = [str(path.readlink()) for path in open_files(server.pid)]
    assert not [name for name in names if "issuer-tls" in name]


def open_files(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/fd").iterdir())
