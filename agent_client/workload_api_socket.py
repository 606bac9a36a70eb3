"""Where the Workload API is (SPIFFE Workload Endpoint section 4)."""

from __future__ import annotations

import os

from agent_client.settings import SPIFFE_ENDPOINT_SOCKET, from_environment
from agent_client.workload_api_errors import WorkloadApiNotConfigured

LONGEST_PATH = 107
"""Bytes that the kernel takes for the path of a UNIX socket (unix(7): ``sun_path``, less the closing zero)."""


def socket_target(socket: str | None) -> str:
    """Return the gRPC target of a socket address, or of ``SPIFFE_ENDPOINT_SOCKET`` without one.

    Args:
        socket: ``unix:///absolute/path`` or ``unix:/absolute/path``.

    Raises:
        WorkloadApiNotConfigured: There is no address, or it is not one of a UNIX socket.
    """
    address = socket or from_environment(SPIFFE_ENDPOINT_SOCKET)
    if address is None:
        raise WorkloadApiNotConfigured(
            f"no Workload API: set {SPIFFE_ENDPOINT_SOCKET} to the SPIRE agent's socket, as in unix:///run/agent.sock"
        )
    path = address.removeprefix("unix:").removeprefix("//")
    if not address.startswith("unix:/") or not path.startswith("/"):
        raise WorkloadApiNotConfigured(f"{address!r} is no Workload API address: write it as in unix:///run/agent.sock")
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise WorkloadApiNotConfigured(f"{path} is too long for a UNIX socket, which has {LONGEST_PATH} bytes at most")
    return f"unix:{path}"
