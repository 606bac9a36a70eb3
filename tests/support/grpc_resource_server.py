"""A resource server of gRPC on this machine, with TLS: it refuses as the interceptors of agent_client do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from issuer_testing.deadline import wait_until
from support.numbered_tokens import number_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from threading import Barrier

METHOD = "/test.Ledger/Read"


@dataclass
class GrpcResourceServer:
    """What a test decides, and what was asked.

    Attributes:
        name: Returns the name of the token in the metadata.
        refused: Names of tokens.
        barrier: What refusals wait at.
        seconds_to_leave: Refusals wait until the call has no more than this.
        sends: An error for every other call.
        text: That of errors, with the caller's own metadata in place of ``TOKEN``.
    """

    name: Callable[[str], object] = number_of
    refused: set[object] = field(default_factory=set)
    barrier: Barrier | None = None
    seconds_to_leave: float | None = None
    sends: tuple[grpc.StatusCode, ErrorInfo] | None = None
    text: str = "not good"
    address: str = ""
    tokens: list[object] = field(default_factory=list)
    seconds_left: list[float] = field(default_factory=list)

    def read(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        authorization = dict(context.invocation_metadata()).get("authorization")
        token = None if authorization is None else self.name(authorization)
        self.tokens.append(token)
        self.seconds_left.append(context.time_remaining() or 0)
        if token in self.refused:
            if self.barrier is not None:
                self.barrier.wait(20)
            if self.seconds_to_leave is not None:
                left = self.seconds_to_leave
                wait_until(lambda: context.time_remaining() <= left, what="the call has less time", seconds=20)
            code, info = grpc.StatusCode.UNAUTHENTICATED, error_info("TOKEN_REJECTED")
            context.abort_with_status(status(code, info, self.text))
        if self.sends is not None:
            context.abort_with_status(status(*self.sends, self.text.replace("TOKEN", str(authorization))))
        return request


def error_info(reason: str, domain: str = "spiffe-issuer", **metadata: str) -> ErrorInfo:
    return ErrorInfo(reason=reason, domain=domain, metadata=metadata)


def status(code: grpc.StatusCode, info: ErrorInfo, text: str) -> Any:
    sent = Status(code=code.value[0], message=text)
    sent.details.add().Pack(info)
    return rpc_status.to_status(sent)


@contextmanager
def serving_grpc(certificate: tuple[Path, Path] | None, *, threads: int = 8) -> Iterator[GrpcResourceServer]:
    """Serve on a free port of 127.0.0.1; without TLS if there is no certificate."""
    ledger = GrpcResourceServer()
    server = grpc.server(ThreadPoolExecutor(threads))
    handler = grpc.method_handlers_generic_handler(
        "test.Ledger", {"Read": grpc.unary_unary_rpc_method_handler(ledger.read)}
    )
    server.add_generic_rpc_handlers((handler,))
    if certificate is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        pair = (certificate[1].read_bytes(), certificate[0].read_bytes())
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    ledger.address = f"127.0.0.1:{port}"
    server.start()
    try:
        yield ledger
    finally:
        server.stop(None).wait()
