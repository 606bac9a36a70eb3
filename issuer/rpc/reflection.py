"""Server reflection, under the name of today and the one that older tools ask for; the messages are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import aio as reflection_aio

from issuer.rpc.logged import logged_stream

if TYPE_CHECKING:
    from collections.abc import Iterable

    from structlog.typing import FilteringBoundLogger

_NAMES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


def reflection_handlers(services: Iterable[str], log: FilteringBoundLogger) -> tuple[grpc.GenericRpcHandler, ...]:
    """Return the handlers that describe ``services``, health and reflection itself."""
    health = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
    servicer = reflection_aio.ReflectionServicer((*services, health, _NAMES[1]))
    return tuple(_handler(name, servicer, log) for name in _NAMES)


def _handler(
    name: str, servicer: reflection_aio.ReflectionServicer, log: FilteringBoundLogger
) -> grpc.GenericRpcHandler:
    behaviour = logged_stream(f"{name}/ServerReflectionInfo", servicer.ServerReflectionInfo, log)
    return grpc.method_handlers_generic_handler(
        name,
        {
            "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
                behaviour,
                reflection_pb2.ServerReflectionRequest.FromString,
                reflection_pb2.ServerReflectionResponse.SerializeToString,
            )
        },
    )
