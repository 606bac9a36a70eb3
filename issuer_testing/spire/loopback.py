"""Where a development SPIRE listens: on this host only."""

from __future__ import annotations

import socket
from contextlib import closing

ADDRESS = "127.0.0.1"


def free_port() -> int:
    """Return a port that was just free. SPIRE takes no port 0, so whoever starts it tries again on a clash."""
    with closing(socket.socket()) as probe:
        probe.bind((ADDRESS, 0))
        return int(probe.getsockname()[1])


def environment(trust_domain: str, folder: str, port: int) -> dict[str, str]:
    """Return what ``server.conf`` and ``agent.conf`` expand."""
    return {
        "SPIRE_TRUST_DOMAIN": trust_domain,
        "SPIRE_RUN_DIR": folder,
        "SPIRE_SERVER_ADDRESS": ADDRESS,
        "SPIRE_SERVER_PORT": str(port),
    }
