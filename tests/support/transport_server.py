"""A server whose methods show how a transport behaves, as a process of its own; and that process for the tests.

Its methods do what ours do not: sleep, send without an end, fail in odd ways. It tells what happens to them, one JSON
object a line, on standard output, and takes commands from standard input: ``changed`` reads the TLS material again.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict, fields
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import grpc
import grpc.aio
import pytest

from issuer.core.errors import RateLimited
from issuer.log import open_log
from issuer.ports import TlsMaterial
from issuer.rpc.h2corn_listener import H2cornListener
from issuer.rpc.health import Health
from issuer.rpc.reflection import reflection_handlers
from issuer.rpc.server import GrpcioListener
from issuer.rpc.settings import RpcSettings
from issuer.rpc.status import status_from_error
from issuer_testing.deadline import wait_until
from issuer_testing.spire.authority import Authority, IssuedSvid, pem_bundle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from structlog.typing import FilteringBoundLogger

    from issuer.rpc.listener import Listener

SERVICE = "conformance.Service"
DNS_NAME = "conformance.test"
ODD_TEXT = "50 % of «ü»\nand more"
LIMITS = RpcSettings(
    listen="127.0.0.1:0",
    max_message_bytes=1024 * 1024,
    max_metadata_bytes=16 * 1024,
    max_concurrent_streams=32,
    max_connection_age=timedelta(minutes=30),
    max_connection_age_grace=timedelta(seconds=2),
    max_connections=4096,
    handshake_timeout=timedelta(seconds=10),
    max_connection_idle=timedelta(minutes=10),
    keepalive_time=timedelta(minutes=1),
    keepalive_timeout=timedelta(seconds=20),
    min_ping_interval=timedelta(seconds=10),
)
RETRY_AFTER = timedelta(milliseconds=1500)
ENDLESS_ANSWER = bytes(16 * 1024)
WAIT_SECONDS = 20.0
DEADLINE = 10.0


def tell(event: str, **fields_: object) -> None:
    sys.stdout.write(json.dumps({"event": event, **fields_}) + "\n")
    sys.stdout.flush()


async def echo(message: bytes, _context: object) -> bytes:
    return message


async def peer(_message: bytes, context: Any) -> bytes:
    chain = context.auth_context()
    shown = {name: value[0].decode() for name, value in chain.items() if name.startswith("x509_pem_cert")}
    metadata = [(name, value) for name, value in context.invocation_metadata() or () if name.startswith("x-")]
    text = [(name, value.hex() if isinstance(value, bytes) else value) for name, value in metadata]
    return json.dumps({"peer": context.peer(), "chain": shown, "metadata": text}).encode()


async def fail(_message: bytes, context: Any) -> bytes:
    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, ODD_TEXT, (("x-detail-bin", b"\0\xff%"), ("x-a", "b")))
    raise AssertionError


async def refuse(_message: bytes, context: Any) -> bytes:
    """Refuse as our own methods do: google.rpc.Status with ErrorInfo and RetryInfo."""
    status = status_from_error(RateLimited("too much of it", RETRY_AFTER), "request-1")
    details = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, status.message, details)
    raise AssertionError


async def break_(_message: bytes, _context: object) -> bytes:
    raise ValueError("a secret that nobody may learn")


async def sleep(_message: bytes, context: Any) -> bytes:
    tell("started", left=context.time_remaining())
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        tell("cancelled")
        raise
    return b""


async def pause(message: bytes, _context: object) -> bytes:
    """Answer after half a second."""
    tell("pausing")
    await asyncio.sleep(0.5)
    return message


async def large(message: bytes, _context: object) -> bytes:
    return bytes(int(message))


async def count(message: bytes, _context: object) -> AsyncIterator[bytes]:
    for number in range(int(message)):
        yield str(number).encode()


async def endless(_message: bytes, _context: object) -> AsyncIterator[bytes]:
    sent = 0
    try:
        while True:
            yield ENDLESS_ANSWER
            sent += 1
            tell("sent", count=sent)
    finally:
        tell("cancelled")


async def echo_each(messages: AsyncIterator[bytes], _context: object) -> AsyncIterator[bytes]:
    async for message in messages:
        yield message


def handlers() -> tuple[grpc.GenericRpcHandler, ...]:
    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    methods = {
        "Echo": unary(echo),
        "Peer": unary(peer),
        "Fail": unary(fail),
        "Refuse": unary(refuse),
        "Break": unary(break_),
        "Sleep": unary(sleep),
        "Pause": unary(pause),
        "Large": unary(large),
        "Unreadable": unary(echo, request_deserializer=int),
        "Count": stream(count),
        "Endless": stream(endless),
        "EchoEach": grpc.stream_stream_rpc_method_handler(echo_each),
    }
    return (grpc.method_handlers_generic_handler(SERVICE, methods),)


def call(channel: grpc.Channel, method: str, message: bytes = b"x", **options: Any) -> bytes:
    answer: bytes = channel.unary_unary(f"/{SERVICE}/{method}")(message, **{"timeout": DEADLINE, **options})
    return answer


def failure(channel: grpc.Channel, method: str, message: bytes = b"x", **options: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as error:
        call(channel, method, message, **options)
    return error.value


def settled(measure: Callable[[], int]) -> int:
    """Return a count once it has not moved for half a second."""
    last, since = measure(), time.monotonic()

    def quiet() -> bool:
        nonlocal last, since
        if (now := measure()) != last:
            last, since = now, time.monotonic()
        return time.monotonic() - since > 0.5

    wait_until(quiet, what="the count settles", seconds=DEADLINE)
    return last


class FolderIdentity:
    """TLS material from files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changed: list[Callable[[], None]] = []
        self.read()

    def read(self) -> None:
        names = [field.name for field in fields(TlsMaterial)]
        self._material = TlsMaterial(**{name: (self._folder / name).read_bytes() for name in names})
        for changed in self._changed:
            changed()

    def tls_material(self) -> TlsMaterial:
        return self._material

    def subscribe(self, changed: Callable[[], None]) -> None:
        self._changed.append(changed)


def listener(transport: str, settings: RpcSettings, identity: FolderIdentity, log: FilteringBoundLogger) -> Listener:
    if transport == "grpcio":
        return GrpcioListener(settings, identity=identity)
    if transport == "native":
        from issuer.rpc.native_listener import NativeListener  # noqa: PLC0415 - in a wheel of its own

        return NativeListener(settings, identity=identity, log=log)
    return H2cornListener(settings, identity=identity, log=log)


async def serve(transport: str, folder: Path, changes: dict[str, float]) -> None:
    values = {**asdict(LIMITS), **{name: _typed(name, value) for name, value in changes.items()}}
    identity = FolderIdentity(folder)
    log = open_log("json", sys.stderr)
    served = listener(transport, RpcSettings(**values), identity, log)
    port = served.bind()
    health = Health((SERVICE,), log)
    await served.start((*handlers(), *health.handlers(), *reflection_handlers((SERVICE,), log)))
    await health.set_serving(serving=True)
    tell("serving", port=port)
    while command := (await asyncio.to_thread(sys.stdin.readline)).strip():
        if command == "changed":
            identity.read()
    await served.stop(1)
    tell("stopped")


def _typed(name: str, value: float) -> object:
    return timedelta(seconds=value) if name.startswith("max_connection_age") else int(value)


class TransportServer:
    """The process.

    Args:
        transport: Which.
        folder: For its files.
        changes: Settings that differ from ``LIMITS``; durations in seconds.
    """

    def __init__(self, transport: str, folder: Path, **changes: float) -> None:
        self.transport = transport
        self.folder = folder
        self.authority = Authority("conformance.test")
        self._changes = changes
        self._events: list[dict[str, Any]] = []
        self.show(self.issue_server())

    def issue_server(self) -> IssuedSvid:
        return self.authority.issue("spiffe://conformance.test/server", dns_names=[DNS_NAME])

    def show(self, svid: IssuedSvid, roots: bytes | None = None) -> None:
        """Write what the server shows and accepts."""
        (self.folder / "certificate_chain").write_bytes(svid.chain_pem())
        (self.folder / "private_key").write_bytes(svid.key_pem())
        (self.folder / "roots").write_bytes(pem_bundle([self.authority.root]) if roots is None else roots)

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "support.transport_server", self.transport, str(self.folder)]
        self._log = (self.folder / "log").open("wb")
        self._process = subprocess.Popen(
            [*command, json.dumps(self._changes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.port = int(self.wait_for("serving")["port"])
        self.address = f"127.0.0.1:{self.port}"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        code = self._process.wait(WAIT_SECONDS)
        self._reader.join()
        self._process.stdout.close()
        self._log.close()
        assert code == 0, (self.folder / "log").read_text()

    @property
    def pid(self) -> int:
        return self._process.pid

    def changed(self) -> None:
        """Tell the server to read its material again."""
        assert self._process.stdin is not None
        self._process.stdin.write("changed\n")
        self._process.stdin.flush()

    def events(self, name: str) -> list[dict[str, Any]]:
        return [event for event in tuple(self._events) if event["event"] == name]

    def wait_for(self, name: str, *, after: int = 0) -> dict[str, Any]:
        """Wait for the event that comes after so many of its name."""
        what = f"the server says {name!r}"
        return wait_until(lambda: self.events(name)[after:], what=what, seconds=WAIT_SECONDS)[0]

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def resident_bytes(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    @contextmanager
    def channel(self, svid: IssuedSvid | None = None, *options: tuple[str, object]) -> Iterator[grpc.Channel]:
        svid = svid or self.authority.issue("spiffe://conformance.test/caller")
        roots = pem_bundle([self.authority.root])
        credentials = grpc.ssl_channel_credentials(roots, svid.key_pem(), svid.chain_pem())
        all_options = [("grpc.ssl_target_name_override", DNS_NAME), ("grpc.use_local_subchannel_pool", 1), *options]
        with grpc.secure_channel(self.address, credentials, all_options) as channel:
            yield channel

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._events.append(json.loads(line))


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])))
