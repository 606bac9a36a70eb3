"""Where a development SPIRE listens: on this host only."""

from __future__ import annotations

ADDRESS = "127.0.0.1"


def environment(trust_domain: str, folder: str, port: int) -> dict[str, str]:
    """Return what ``server.conf`` and ``agent.conf`` expand."""
    return {
        "SPIRE_TRUST_DOMAIN": trust_domain,
        "SPIRE_RUN_DIR": folder,
        "SPIRE_SERVER_ADDRESS": ADDRESS,
        "SPIRE_SERVER_PORT": str(port),
    }
