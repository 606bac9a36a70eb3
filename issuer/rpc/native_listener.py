"""The third transport: a server in Rust (``transport/``) that hands calls over in lists, in an optional wheel.

It runs in a thread that never takes Python's lock. A change of SVID or roots counts for the next handshake, without
another server; connections get their age and end with two GOAWAYs, and handshakes that fail are told.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import grpc

from issuer.core.admission import ANSWER_SECONDS
from issuer.native_wheel import Allowance, Server
from issuer.rpc.asgi_wire import GrpcFault, metadata_from_headers, status_headers, status_trailers
from issuer.rpc.call import Call
from issuer.rpc.handler_run import Methods, run_handler
from issuer.rpc.listener import CannotListen
from issuer.rpc.listening_socket import listening_socket
from issuer.rpc.native_call import NativeCall, taken_from
from issuer.rpc.rpc_rules import RPC_RULES, is_for_callers
from issuer.rpc.throwaway_root import root_of_nobody
from issuer.rpc.together import Asking
from issuer.rpc.trust_anchors import shut_out, without_name_constraints
from issuer.rpc.turns import HOLD_SECONDS, TICK_SECONDS
from issuer.waiting import threadsafe

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Sequence

    from google.rpc.status_pb2 import Status
    from structlog.typing import FilteringBoundLogger

    from issuer.native_wheel import Headers
    from issuer.ports import TlsMaterial
    from issuer.rpc.listener import ChangingIdentity
    from issuer.rpc.native_call import Taken
    from issuer.rpc.settings import RpcSettings
    from issuer.rpc.shedding import Trailers
    from issuer.rpc.together import MakeTogether

MAX_RESETS: Final = 200
"""Calls of one connection that were reset before the server looked at them, until the connection ends: what gRPC's
clients do in a moment of stall, and little enough to hold (CVE-2023-44487)."""
LOG_SECONDS: Final = 1.0
"""The log tells of failed handshakes at most so often."""
ENDING_SECONDS: Final = 2.0
"""For calls that were told to end, until the listener no longer waits for them."""
_OK = status_headers(grpc.StatusCode.OK, "")


class NativeListener:
    """Serves with the native transport, in a thread beside the running event loop. Needs Linux, for ``eventfd``.

    Args:
        settings: Address and limits.
        identity: The issuer's own SVID and the roots to accept.
        log: Where changes and faults are told.
        together: Makes what answers calls together, given what is told the answers; ``None`` leaves all to handlers.
    """

    def __init__(
        self,
        settings: RpcSettings,
        *,
        identity: ChangingIdentity,
        log: FilteringBoundLogger,
        together: MakeTogether | None = None,
    ) -> None:
        self._settings = settings
        self._identity = identity
        self._log = log
        self._socket: socket.socket | None = None
        self._server: Server | None = None
        self._served: TlsMaterial | None = None
        self._methods = Methods(())
        self._bell = -1
        self._calls: dict[int, NativeCall] = {}
        self._finished = asyncio.Event()
        self._stopping = False
        self._untold, self._last_told = 0, float("-inf")
        self._together = together(tell=self._answer, sheds=self) if together else None

    def bind(self) -> int:
        """Take the address and return the port.

        Raises:
            AddressInUse: When it cannot be taken.
        """
        self._socket = listening_socket(self._settings)
        return int(self._socket.getsockname()[1])

    async def start(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Accept calls.

        Raises:
            CannotListen: When the first material cannot be used, or callers that share our CAs could not call.
        """
        assert self._socket is not None, "bind() comes first"  # noqa: S101 - our defect
        self._methods = Methods(handlers)
        material = self._identity.tls_material()
        if fault := shut_out(material.certificate_chain, "webpki"):
            raise CannotListen(f'{fault}: set [server] transport = "grpcio"')
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            self._server = Server(self._socket.detach(), self._bell, *_pem(material), **_limits(self._settings))
        except ValueError as error:
            raise CannotListen(f"the transport cannot serve with what SPIRE gave: {error}") from error
        self._served = material
        asyncio.get_running_loop().add_reader(self._bell, self._woken)
        self._identity.subscribe(threadsafe(self._change))
        self._server.start()
        self._change()  # what came between

    async def stop(self, grace: float) -> None:
        """Accept no more, and give calls in flight up to so many seconds to end."""
        if self._server is None:
            if self._socket is not None:
                self._socket.close()
            return
        self._stopping = True
        self._server.finish()
        if not await self._has_finished(grace):
            self._server.end_calls()
            await self._has_finished(ENDING_SECONDS)
        asyncio.get_running_loop().remove_reader(self._bell)
        for number in tuple(self._calls):
            self._cancel(number)
        await asyncio.to_thread(self._server.join)
        os.close(self._bell)

    async def _has_finished(self, within: float) -> bool:
        try:
            async with asyncio.timeout(within):
                await self._finished.wait()
        except TimeoutError:
            return False
        return True

    def _change(self) -> None:
        """Make the next handshakes with the newest material.

        One root that cannot be read spoils all, and a federated trust domain can have one at any time. It must not keep
        the issuer from its next SVID: then the roots of before are kept. The pipeline knows the newest anyway.
        """
        wanted = self._identity.tls_material()
        if self._server is None or self._served is None or wanted == self._served:
            return
        for material in dict.fromkeys((wanted, replace(wanted, roots=self._served.roots))):
            try:
                self._server.use_material(*_pem(material))
            except ValueError as error:
                self._log.error("tls_change_refused", error=str(error))
                continue
            self._served = material
            self._log.info("tls_changed")
            # Served nevertheless: an SVID that expires helps nobody; callers of other trust domains are not concerned.
            if fault := shut_out(wanted.certificate_chain, "webpki"):
                self._log.error("callers_shut_out", error=fault, remedy='set [server] transport = "grpcio"')
            return

    def _woken(self) -> None:
        assert self._server is not None  # noqa: S101 - for the type checker: woken by it
        with suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        calls, news = self._server.take()
        for taken in self._left_alone([taken_from(call) for call in calls]):
            self._begin(taken)
        for kind, *about in news:
            self._told(kind, about)

    def _left_alone(self, calls: list[Taken]) -> Iterable[Taken]:
        """Return the calls that are to be answered one by one."""
        if self._together is None:
            return calls
        whole = {call.id: call for call in calls if call.ended and call.message is not None}
        others = self._together.take([_asking(call) for call in whole.values()])
        return [*(call for call in calls if call.id not in whole), *(whole[each.id] for each in others)]

    def _answer(self, answers: list[tuple[int, bytes | Status]]) -> None:
        assert self._server is not None  # noqa: S101 - as above
        self._server.answer([(number, answer) for number, answer in answers if isinstance(answer, bytes)])
        for number, answer in answers:
            if not isinstance(answer, bytes):
                self._server.end(number, status_trailers(answer))

    def new_allowance(self) -> Allowance:
        """See :class:`issuer.rpc.shedding.Sheds`."""
        return Allowance()

    def refuse_with(self, statuses: Sequence[Trailers], max_held: int) -> None:
        """See :class:`issuer.rpc.shedding.Sheds`."""
        assert self._server is not None  # noqa: S101 - as above
        self._server.refuse_with(statuses, max_held)

    def _begin(self, taken: Taken) -> None:
        assert self._server is not None  # noqa: S101 - as above
        loop = asyncio.get_running_loop()
        call = NativeCall(self._server, taken, self._settings.max_message_bytes, loop.time)
        self._calls[taken.id] = call
        call.task = loop.create_task(self._serve(taken, call))

    async def _serve(self, taken: Taken, call: NativeCall) -> None:
        try:
            call.close(await self._answered(taken, call))
        finally:
            self._calls.pop(taken.id, None)

    async def _answered(self, taken: Taken, call: NativeCall) -> list[tuple[bytes, bytes]]:
        """Run the handler and return the trailers of its status."""
        try:
            await run_handler(self._methods.find(taken.path), call, call)
        except GrpcFault as fault:
            return status_headers(fault.code, fault.details, fault.trailing_metadata)
        except Exception:  # noqa: BLE001 - the last line of defence, as the pipeline has it for our own methods
            self._log.exception("rpc_fault", method=taken.path)
            return status_headers(grpc.StatusCode.UNKNOWN, "unexpected fault of the server")
        return _OK

    def _told(self, kind: str, about: list[Any]) -> None:
        match kind, about:
            case "finished", _:
                self._finished.set()
                if not self._stopping:  # a fault: an issuer that nobody can call must not look alive
                    self._log.error("transport_ended")
                    os.kill(os.getpid(), signal.SIGTERM)
            case "handshake_failed", [peer, why]:
                self._tell_of_handshake(peer, why)
            case _, [number, *rest] if (call := self._calls.get(number)) is not None:
                match kind:
                    case "written":
                        call.written()
                    case "message":
                        call.received(rest[0])
                    case _:  # cancelled, unreadable: the client has been told, or is not there
                        self._cancel(number)

    def _cancel(self, number: int) -> None:
        call = self._calls.pop(number)  # here, since a task that never began does not come to its end
        if call.task is not None:
            call.task.cancel()

    def _tell_of_handshake(self, peer: str, why: str) -> None:
        self._untold += 1
        now = asyncio.get_running_loop().time()
        if now - self._last_told >= LOG_SECONDS:
            self._log.warning("handshakes_failed", failed=self._untold, last_peer=peer, last_error=why)
            self._untold, self._last_told = 0, now


def _asking(taken: Taken) -> Asking:
    peer = taken.peer
    metadata = partial(_metadata, taken.headers)
    call = Call(taken.path[1:], peer.address, peer.leaf_pem, peer.intermediates_pem, taken.left, metadata)
    return Asking(call, taken.message or b"", taken.id, peer)


def _metadata(headers: Headers) -> tuple[tuple[str, str | bytes], ...]:
    return metadata_from_headers(headers.list())


def _pem(material: TlsMaterial) -> tuple[bytes, bytes, bytes]:
    roots = without_name_constraints(material.roots) or root_of_nobody()
    return material.certificate_chain, material.private_key, roots


def _limits(settings: RpcSettings) -> dict[str, Any]:
    return {
        "max_message": settings.max_message_bytes,
        "max_metadata": settings.max_metadata_bytes,
        "max_streams": settings.max_concurrent_streams,
        "max_connections": settings.max_connections,
        "max_resets": MAX_RESETS,
        "age": settings.max_connection_age.total_seconds(),
        "grace": settings.max_connection_age_grace.total_seconds(),
        "handshake": settings.handshake_timeout.total_seconds(),
        "idle": settings.max_connection_idle.total_seconds(),
        "keepalive_time": settings.keepalive_time.total_seconds(),
        "keepalive_timeout": settings.keepalive_timeout.total_seconds(),
        "min_ping_interval": settings.min_ping_interval.total_seconds(),
        "shed": {f"/{method}" for method in RPC_RULES if is_for_callers(method)},
        "hold": HOLD_SECONDS,
        "hold_tick": TICK_SECONDS,
        "hold_from": HOLD_SECONDS + ANSWER_SECONDS,
    }
