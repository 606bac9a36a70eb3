"""The second transport: h2corn, an HTTP/2 server in Rust, carries the same handlers at a fraction of grpcio's cost.

h2corn reads its certificate, key and roots once, when a server starts. So each change of them starts another server on
the same listening socket, and tells the one before to finish: it accepts no more, says GOAWAY, and ends when its calls
have. Clients of gRPC dial again by themselves. That is also how connections get an age: after it everything is changed
anyway.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import grpc
import h2corn

from issuer.rpc.asgi_app import AsgiGrpc
from issuer.rpc.asgi_wire import GrpcFault
from issuer.rpc.listener import CannotListen
from issuer.rpc.listening_socket import listening_socket
from issuer.rpc.throwaway_root import root_of_nobody
from issuer.rpc.trust_anchors import shut_out, without_name_constraints
from issuer.waiting import first_of, threadsafe

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine, Iterator, MutableMapping, Sequence

    from structlog.typing import FilteringBoundLogger

    from issuer.ports import TlsMaterial
    from issuer.rpc.asgi_context import Send
    from issuer.rpc.asgi_messages import Receive
    from issuer.rpc.door import Door
    from issuer.rpc.held_calls import HeldCalls
    from issuer.rpc.listener import ChangingIdentity
    from issuer.rpc.settings import RpcSettings

if not hasattr(os, "memfd_create"):
    raise ImportError("the key is handed over in a memory file, which this system does not have")

BETWEEN_CHANGES_SECONDS = 0.5
"""The least time between two changes: bundles come one trust domain after the other, and each change asks all callers
to dial again. The first of several is made at once."""
AGAIN_SECONDS = 10.0
"""After a change that could not be made: the cause may have been of the moment."""
MAX_FINISHING = 4
"""Servers that may be finishing at once. With more changes than that within the grace, the newest waits; until then
handshakes are made with what was before, and the pipeline, which knows the newest bundles, decides as always."""
GATHER_SECONDS = 0.1
"""For a connection in use to have a call that can be kept open. A call that ends now takes so much longer, once for
each change, and :data:`GOAWAY_SECONDS` more."""
GOAWAY_SECONDS = 0.1
"""For a GOAWAY to reach the client, and for what crossed it to be refused: a round trip, which is shorter than this
where callers are near. RFC 9113 section 6.8 has another way, two GOAWAYs, which h2corn does not."""
ENDING_SECONDS = 1.0
"""For calls that were told to end, until the listener no longer waits for them."""
HARD_METADATA_FACTOR = 8
"""From so many times the limit on, h2corn itself refuses metadata, with HTTP 431, which callers see as UNKNOWN. Below,
our own check gives the status of gRPC's other servers."""
UNBOUNDED_BODY_BYTES = 2**30
"""As h2corn has it by default: of gRPC, each message is bounded, and not the stream of them."""
RUNTIME_THREADS = 1
"""Of h2corn, beside the event loop's. With two, a lone caller's call costs half as much again, and many callers' the
same (docs/PERFORMANCE.md)."""
WINDOW_BYTES = 65_535
"""The smallest receive window that HTTP/2 knows, for what comes beside the largest message."""
_AGED = GrpcFault(grpc.StatusCode.UNAVAILABLE, "the connection has reached its age")


@dataclass(frozen=True, slots=True)
class _Generation:
    """One server, from a handshake's first possible moment to its last call's end.

    Attributes:
        wanted: What it was begun for.
        material: What it has: the same, or with the roots of before when those that were wanted cannot be used.
        told: Set once it was told to finish: it accepts no more.
    """

    wanted: TlsMaterial
    material: TlsMaterial
    app: Application
    server: h2corn.Server
    serving: asyncio.Task[None]
    told: asyncio.Event = field(default_factory=asyncio.Event)


class Application(Protocol):
    """An ASGI application whose calls can be kept open, and can be told to end.

    Attributes:
        held: What its calls wait in, where they wait, before they end.
    """

    held: HeldCalls

    def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """Serve one call."""

    def end_calls(self, fault: GrpcFault) -> None:
        """End every open call, with a status where the protocol has one."""


class H2cornListener:
    """Serves with h2corn, embedded in the running event loop. Needs Linux: keys are kept in memory files.

    Args:
        settings: Address and limits.
        identity: The issuer's own SVID and the roots to accept.
        log: Where changes and faults are told.
        max_body_bytes: Serve plain HTTP, 1.1 as well as 2, with bodies of so many bytes; without it, gRPC.
        door: Refuses calls of gRPC before they are read.
    """

    def __init__(
        self,
        settings: RpcSettings,
        *,
        identity: ChangingIdentity,
        log: FilteringBoundLogger,
        max_body_bytes: int | None = None,
        door: Door | None = None,
    ) -> None:
        self._settings = settings
        self._identity = identity
        self._log = log
        self._max_body_bytes = max_body_bytes
        self._door = door
        self._remedy = 'set [server] transport = "grpcio"' if max_body_bytes is None else "leave [oauth_http] out"
        self._make: Callable[[], Application] | None = None
        self._socket: socket.socket | None = None
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._fewer = asyncio.Event()
        self._current: _Generation | None = None
        self._finishing: dict[asyncio.Task[None], _Generation] = {}
        self._following: asyncio.Task[None] | None = None

    def bind(self) -> int:
        """Take the address and return the port.

        Raises:
            AddressInUse: When it cannot be taken.
        """
        self._socket = listening_socket(self._settings)
        return int(self._socket.getsockname()[1])

    async def start(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Accept calls of gRPC.

        Raises:
            CannotListen: When the first material cannot be used.
        """
        await self.serve(lambda: AsgiGrpc(handlers, self._settings, self._log, self._door))

    async def serve(self, make: Callable[[], Application]) -> None:
        """Accept calls.

        Args:
            make: Makes the application; called for each server that is started.

        Raises:
            CannotListen: When the first material cannot be used, or callers that share our CAs could not call.
        """
        self._make = make
        self._identity.subscribe(threadsafe(self._changed.set))
        wanted = self._identity.tls_material()
        if fault := shut_out(wanted.certificate_chain, "h2corn"):
            raise CannotListen(f"{fault}: {self._remedy}")
        try:
            self._current = await self._begun(wanted, wanted)
        except Exception as error:
            raise CannotListen(f"h2corn cannot serve with what SPIRE gave: {error}") from error
        self._following = asyncio.get_running_loop().create_task(self._follow())

    async def stop(self, grace: float) -> None:
        """Accept no more, and give calls in flight up to so many seconds to end."""
        self._stopping.set()
        if self._following is not None:
            await self._following
        if self._current is not None:
            self._finish(self._current, grace)
            self._current = None
        await self._wait_for_finishing(grace)
        for generation in self._finishing.values():
            generation.app.end_calls(_AGED)
        await self._wait_for_finishing(ENDING_SECONDS)
        if self._socket is not None:
            self._socket.close()

    async def _wait_for_finishing(self, within: float) -> None:
        if self._finishing:
            await asyncio.wait(self._finishing, timeout=within)

    async def _begun(self, wanted: TlsMaterial, material: TlsMaterial) -> _Generation:
        """Start a server; returns when it accepts."""
        assert self._socket is not None and self._make is not None, "bind() comes first"  # noqa: S101, PT018 - our defect
        app = self._make()
        with _memory_files(material) as paths:
            config = _config(self._settings, self._socket.fileno(), paths, self._max_body_bytes)
            server = h2corn.Server(app, config)
            serving = asyncio.get_running_loop().create_task(server.serve())
            try:
                await server.wait_started()
            except BaseException:
                server.shutdown()
                with suppress(BaseException):
                    await serving
                raise
        serving.add_done_callback(lambda _: self._changed.set())  # nobody asked it to end: then another is begun
        return _Generation(wanted, material, app, server, serving)

    async def _follow(self) -> None:
        """Change servers when the material changes, and whenever connections have reached their age."""
        loop = asyncio.get_running_loop()
        age = self._settings.max_connection_age.total_seconds()
        due = loop.time() + age
        while not self._stopping.is_set():
            await first_of(self._changed, self._stopping, within=max(0.0, due - loop.time()))
            self._changed.clear()
            if not self._stopping.is_set() and (loop.time() >= due or self._is_old()):
                due = loop.time() + (age if await self._change() else AGAIN_SECONDS)
                await first_of(self._stopping, within=BETWEEN_CHANGES_SECONDS)

    def _is_old(self) -> bool:
        current = self._current
        return current is None or current.serving.done() or current.wanted != self._identity.tls_material()

    async def _change(self) -> bool:
        """Put another server in the place of the present one; returns whether that was done."""
        while len(self._finishing) >= MAX_FINISHING:
            await first_of(self._fewer, self._stopping, within=None)
            self._fewer.clear()
            if self._stopping.is_set():
                return False
        before, fresh = self._current, await self._next()
        if fresh is None:
            return False
        self._current = fresh
        if before is not None:
            self._finish(before, self._settings.max_connection_age_grace.total_seconds())
            await before.told.wait()
        self._log.info("tls_changed", finishing=len(self._finishing))
        # Served nevertheless: an SVID that expires helps nobody, and callers of other trust domains are not concerned.
        if fault := shut_out(fresh.wanted.certificate_chain, "h2corn"):
            self._log.error("callers_shut_out", error=fault, remedy=self._remedy)
        return True

    async def _next(self) -> _Generation | None:
        """Start the server that comes after the present one; ``None`` when that cannot be.

        One root that h2corn cannot read spoils all, and a federated trust domain can have one at any time. It must not
        keep the issuer from its next SVID: then the roots of before are kept. The pipeline knows the newest anyway.
        """
        wanted = self._identity.tls_material()
        kept = self._current.material.roots if self._current else wanted.roots
        for material in dict.fromkeys((wanted, replace(wanted, roots=kept))):
            try:
                return await self._begun(wanted, material)
            except Exception as error:  # noqa: BLE001 - whatever it is that cannot be used, what is there serves on
                self._log.error("tls_change_refused", error=f"{type(error).__name__}: {error}")
        return None

    def _finish(self, generation: _Generation, grace: float) -> None:
        task = asyncio.get_running_loop().create_task(_finished(generation, grace))
        self._finishing[task] = generation
        task.add_done_callback(self._has_finished)

    def _has_finished(self, task: asyncio.Task[None]) -> None:
        del self._finishing[task]
        self._fewer.set()


async def _finished(generation: _Generation, grace: float) -> None:
    """Tell a server to finish; end what is still open after ``grace`` seconds. Returns when it has.

    h2corn sends one GOAWAY and closes at once a connection that has no call. What the client sends at that moment meets
    a closed socket, whose answer to it makes some clients' calls fail, or hang, before they have read the GOAWAY. So
    the calls of a connection that is in use are kept open until its client must have read it.
    """
    generation.app.held.hold()
    await asyncio.sleep(GATHER_SECONDS)
    generation.server.shutdown()
    generation.told.set()
    await asyncio.sleep(GOAWAY_SECONDS)
    generation.app.held.release()
    await asyncio.wait({generation.serving}, timeout=grace)
    generation.app.end_calls(_AGED)
    with suppress(Exception):  # h2corn's own account of calls that would not end
        await generation.serving


def _config(
    settings: RpcSettings, listener: int, paths: tuple[Path, Path, Path], max_body_bytes: int | None
) -> h2corn.Config:
    certificate, key, roots = paths
    grace = settings.max_connection_age_grace.total_seconds()
    window = settings.max_message_bytes + WINDOW_BYTES
    return h2corn.Config(
        bind=(f"fd://{listener}",),
        certfile=certificate,
        keyfile=key,
        ca_certs=roots,
        cert_reqs="required",
        grpc=max_body_bytes is None,
        http1=max_body_bytes is not None,
        max_request_body_size=max_body_bytes or UNBOUNDED_BODY_BYTES,
        lifespan="off",
        access_log=False,
        log_format="json",
        date_header=False,
        runtime_threads=RUNTIME_THREADS,
        max_concurrent_streams=settings.max_concurrent_streams,
        limit_request_fields=0,  # what they may take together is limited, as in grpcio
        h2_max_header_list_size=HARD_METADATA_FACTOR * settings.max_metadata_bytes,
        h2_max_header_block_size=HARD_METADATA_FACTOR * settings.max_metadata_bytes,
        # One message, and what surrounds it, may be under way on a stream; two of them on a connection.
        h2_initial_stream_window_size=window,
        h2_initial_connection_window_size=2 * window,
        limit_connections=settings.max_connections,
        timeout_handshake=settings.handshake_timeout.total_seconds(),
        timeout_keep_alive=min(settings.max_connection_idle, settings.max_connection_age).total_seconds(),
        # Ours comes first and tells the callers why.
        timeout_graceful_shutdown=grace + 5,
    )


@contextmanager
def _memory_files(material: TlsMaterial) -> Iterator[tuple[Path, Path, Path]]:
    """Make certificate chain, key and roots readable by path, for as long as h2corn needs to read them.

    They are files without a name, in memory, that only this process's own user can reach, and only while this lasts:
    whoever can do that can read the process's memory as well.
    """
    with ExitStack() as stack:
        roots = without_name_constraints(material.roots) or root_of_nobody()
        yield (
            _memory_file(material.certificate_chain, stack),
            _memory_file(material.private_key, stack),
            _memory_file(roots, stack),
        )


def _memory_file(content: bytes, stack: ExitStack) -> Path:
    file = stack.enter_context(os.fdopen(os.memfd_create("issuer-tls", os.MFD_CLOEXEC), "wb"))
    os.fchmod(file.fileno(), 0o600)
    file.write(content)
    file.flush()
    return Path(f"/proc/self/fd/{file.fileno()}")
