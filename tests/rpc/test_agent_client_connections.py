"""The client's connections to the issuer, as the kernel has them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.clients import Clients, InItsLoop
from support.deployment import LEDGER, SETTLER, Deployment

from agent_client import ClientClosed, IssuerClient, SyncIssuerClient
from agent_client.credentials import UNACKNOWLEDGED_MS

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_USER_TIMEOUT and /proc are Linux's")
@pytest.mark.parametrize("kind", [SyncIssuerClient, InItsLoop], ids=["sync", "asyncio"])
def test_a_connection_whose_packets_are_lost_is_given_up_soon(kind: type, deployment: Deployment) -> None:
    """Otherwise TCP's growing pauses outlast a network's outage by half of it, and the tokens with it."""
    with Clients(kind).of(deployment, deployment.authority.workload(SETTLER)) as client:
        client.list_access()
        found = [
            connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            for connection in connections_to(deployment.issuer.address)
        ]
    assert found
    assert set(found) == {UNACKNOWLEDGED_MS}


async def test_a_close_that_is_cancelled_leaves_nothing_open(deployment: Deployment) -> None:
    workload = deployment.authority.workload(SETTLER)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # whoever connects waits
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        client = IssuerClient(address, workload_api=workload.socket)
        asking = asyncio.create_task(client.tokens_for(LEDGER, ["ledger.read"]).get())
        connection, _ = await asyncio.to_thread(silent.accept)
        with connection:
            closing = asyncio.create_task(client.close())
            await asyncio.sleep(0)
            closing.cancel()
            ended = await asyncio.gather(asking, closing, return_exceptions=True)
        assert [type(error) for error in ended] == [ClientClosed, asyncio.CancelledError]
        assert "workload-api" not in {thread.name for thread in threading.enumerate()}
        with pytest.raises(ClientClosed):
            await client.list_access()


def connections_to(address: str) -> Iterator[socket.socket]:
    """Yield the connections of this process to a port of this machine; gRPC's have IPv4 mapped into IPv6."""
    port = int(address.rpartition(":")[2])
    for descriptor in Path("/proc/self/fd").iterdir():
        if not descriptor.is_socket():
            continue
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(descriptor.name))) as connection:
            if connection.family in (socket.AF_INET, socket.AF_INET6) and connection.getpeername()[1] == port:
                yield connection
