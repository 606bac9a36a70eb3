"""The reference: an RPC that does nothing, on the issuer's own server stack.

The same event loop, gRPC settings, limits and mutual TLS with an SVID from the Workload API; only the method is empty.
Prints its address, then serves until its standard input closes.

Usage: ``python -m bench.null_server WORKLOAD_API TRANSPORT``.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

from issuer.cli.serve import GRPC_SETTINGS

for _name, _value in GRPC_SETTINGS.items():
    os.environ.setdefault(_name, _value)  # noqa: TID251 - gRPC reads it when it is imported

import grpc
import uvloop

from agent_client.workload_api import WorkloadApiWatcher
from issuer.log import open_log
from issuer.rpc.h2corn_listener import H2cornListener
from issuer.rpc.server import GrpcioListener
from issuer.rpc.settings import RpcSettings
from issuer.spire.identity import SpireIdentity
from issuer.system import SystemClock

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from issuer.rpc.listener import Listener

SETTINGS = RpcSettings(
    listen="127.0.0.1:0",
    max_message_bytes=2 * 1024 * 1024,
    max_metadata_bytes=16 * 1024,
    max_concurrent_streams=256,
    max_connection_age=timedelta(minutes=30),
    max_connection_age_grace=timedelta(seconds=30),
    max_connections=4096,
    handshake_timeout=timedelta(seconds=10),
    max_connection_idle=timedelta(minutes=10),
    keepalive_time=timedelta(minutes=1),
    keepalive_timeout=timedelta(seconds=20),
    min_ping_interval=timedelta(seconds=10),
)


async def _answer(_message: bytes, _context: object) -> bytes:
    return b""


def _listener(transport: str, identity: SpireIdentity, log: FilteringBoundLogger) -> Listener:
    if transport == "grpcio":
        return GrpcioListener(SETTINGS, identity=identity)
    if transport == "h2corn":
        return H2cornListener(SETTINGS, identity=identity, log=log)
    from issuer.rpc.native_listener import NativeListener  # noqa: PLC0415 - in a wheel of its own

    return NativeListener(SETTINGS, identity=identity, log=log)


async def _serve(identity: SpireIdentity, log: FilteringBoundLogger, transport: str) -> None:
    listener = _listener(transport, identity, log)
    port = listener.bind()
    handlers = {"Null": grpc.unary_unary_rpc_method_handler(_answer)}
    await listener.start((grpc.method_handlers_generic_handler("bench.NullService", handlers),))
    print(f"127.0.0.1:{port}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await listener.stop(1)


def main() -> None:
    """Serve."""
    watcher = WorkloadApiWatcher(sys.argv[1])
    watcher.start()
    watcher.wait_for_first(10)
    log = open_log("json", sys.stderr)
    identity = SpireIdentity(watcher, spiffe_id=None, federated=frozenset(), clock=SystemClock(), log=log)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(identity, log, sys.argv[2]))
    watcher.close()


main()
