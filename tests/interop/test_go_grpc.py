"""Both transports as grpc-go, the client of most of SPIFFE's world, meets them."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.transport_server import DNS_NAME, LIMITS, ODD_TEXT, SERVICE, TransportServer

from issuer_testing.spire.authority import pem_bundle
from issuer_testing.spire.go_toolchain import find_go
from issuer_testing.spire.settings import SpireSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.interop

SOURCE = Path(__file__).with_name("go_grpc")
RESERVED = "the server's settings tell the client its limit, which keeps it and never sends"


class GoClient:
    """The program, with one connection."""

    def __init__(self, program: Path, server: TransportServer, folder: Path) -> None:
        svid = server.authority.issue("spiffe://conformance.test/go")
        files = {"roots": pem_bundle([server.authority.root]), "chain": svid.chain_pem(), "key": svid.key_pem()}
        for name, content in files.items():
            (folder / name).write_bytes(content)
        command = [str(program), server.address, DNS_NAME, *(str(folder / name) for name in files)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def call(self, method: str, *messages: bytes, **options: Any) -> dict[str, Any]:
        """Call and return code, message, answers and trailers."""
        wanted = {
            "method": f"/{SERVICE}/{method}",
            "messages": [base64.b64encode(message).decode() for message in messages],
            "timeout_ms": 10_000,
            **options,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(wanted) + "\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        found["answers"] = [base64.b64decode(answer) for answer in found["answers"] or ()]
        return found

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        assert self._process.wait(10) == 0
        self._process.stdout.close()


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("go") / "call"
    go = find_go(SpireSettings.from_environment(), print)
    subprocess.run([str(go), "build", "-o", str(program), "."], cwd=SOURCE, check=True, timeout=280)
    return program


@pytest.fixture(scope="module")
def server(transport: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TransportServer]:
    with TransportServer(transport, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def client(program: Path, server: TransportServer, tmp_path: Path) -> Iterator[GoClient]:
    client = GoClient(program, server, tmp_path)
    yield client
    client.close()


def test_messages_of_every_size_come_back(client: GoClient) -> None:
    for size in (0, 1, 65_535, LIMITS.max_message_bytes):
        assert client.call("Echo", b"a" * size)["answers"] == [b"a" * size]


def test_what_is_too_large_is_refused_and_the_connection_lives_on(client: GoClient) -> None:
    assert client.call("Echo", bytes(LIMITS.max_message_bytes + 1))["code"] == "ResourceExhausted"
    assert client.call("Large", str(LIMITS.max_message_bytes + 1).encode())["code"] == "ResourceExhausted"
    assert client.call("Echo", b"a")["code"] == "OK"


def test_metadata_over_the_limit_is_refused_and_the_connection_lives_on(client: GoClient) -> None:
    code = client.call("Echo", b"a", metadata={"x-a": "a" * 20_000})["code"]
    assert code in {"ResourceExhausted", "Internal"}, RESERVED
    assert client.call("Echo", b"a")["code"] == "OK"


def test_a_status_carries_its_text_and_its_metadata_byte_for_byte(client: GoClient) -> None:
    found = client.call("Fail", b"")
    assert (found["code"], found["message"], found["trailers"]) == ("FailedPrecondition", ODD_TEXT, ["b"])
    assert base64.b64decode(found["detail"]) == b"\0\xff%"


def test_what_does_not_exist_is_unimplemented(client: GoClient) -> None:
    assert client.call("Nothing", b"")["code"] == "Unimplemented"


def test_streams(client: GoClient) -> None:
    assert client.call("Count", b"500")["answers"] == [str(number).encode() for number in range(500)]
    each = [b"a", b"", b"b" * 100_000]
    assert client.call("EchoEach", *each)["answers"] == each


def test_deadlines_and_cancellation_reach_the_method(server: TransportServer, client: GoClient) -> None:
    for options, code in (({"timeout_ms": 300}, "DeadlineExceeded"), ({"cancel_ms": 300}, "Canceled")):
        cancelled = len(server.events("cancelled"))
        assert client.call("Sleep", b"", **options)["code"] == code
        server.wait_for("cancelled", after=cancelled)


def test_compression_is_grpcio_s_alone(server: TransportServer, client: GoClient) -> None:
    code = client.call("Echo", bytes(1000), gzip=True)["code"]
    assert code == {"grpcio": "OK", "h2corn": "Unimplemented"}[server.transport]


def test_connections_that_age_and_material_that_changes_fail_no_call(
    program: Path, transport: str, tmp_path: Path
) -> None:
    # On a busy machine a call may outlive the grace of grpcio's own age, which is no matter of this change.
    fine = {"OK"} if transport == "h2corn" else {"OK", "Unavailable"}
    with TransportServer(transport, tmp_path, max_connection_age=1.0) as server:
        client = GoClient(program, server, tmp_path)
        try:
            for _ in range(3):
                server.show(server.issue_server())
                server.changed()
                assert client.call("Pause", b"x", repeat=3)["code"] in fine
            assert client.call("Echo", b"x", repeat=1000)["code"] in fine
        finally:
            client.close()
