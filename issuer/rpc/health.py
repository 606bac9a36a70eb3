"""grpc.health.v1.Health: the whole server as "" and each service by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio

from issuer.rpc.logged import logged_stream, logged_unary

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.message import Message
    from structlog.typing import FilteringBoundLogger

_SERVICE = "grpc.health.v1.Health"
_Status = health_pb2.HealthCheckResponse


class Health:
    """Whether the issuer can serve right now. NOT_SERVING until told otherwise."""

    def __init__(self, services: Iterable[str], log: FilteringBoundLogger) -> None:
        self._servicer = health_aio.HealthServicer()
        self._names = ("", *services)
        self._status = _Status.NOT_SERVING
        self._log = log

    async def set_serving(self, *, serving: bool) -> None:
        """Tell every watcher. Without effect once :meth:`shut_down` was called."""
        self._status = _Status.SERVING if serving else _Status.NOT_SERVING
        for name in self._names:
            await self._servicer.set(name, self._status)

    async def shut_down(self) -> None:
        """Say NOT_SERVING for good: the server is about to stop."""
        self._status = _Status.NOT_SERVING
        await self._servicer.enter_graceful_shutdown()

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """Return the handlers of the health service."""
        parse = health_pb2.HealthCheckRequest.FromString
        check = logged_unary(f"{_SERVICE}/Check", self._servicer.Check, self._log)
        listing = logged_unary(f"{_SERVICE}/List", self._list, self._log)
        watch = logged_stream(f"{_SERVICE}/Watch", self._servicer.Watch, self._log)
        return (
            grpc.method_handlers_generic_handler(
                _SERVICE,
                {
                    "Check": grpc.unary_unary_rpc_method_handler(check, parse, _serialize),
                    "List": grpc.unary_unary_rpc_method_handler(
                        listing, health_pb2.HealthListRequest.FromString, _serialize
                    ),
                    "Watch": grpc.unary_stream_rpc_method_handler(watch, parse, _serialize),
                },
            ),
        )

    async def _list(self, _message: health_pb2.HealthListRequest, _context: object) -> health_pb2.HealthListResponse:
        # The servicer that grpcio ships does not have this RPC of the protocol yet.
        return health_pb2.HealthListResponse(statuses={name: _Status(status=self._status) for name in self._names})


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()
