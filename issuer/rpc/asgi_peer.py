"""Who is at the other end of an ASGI connection, as far as the transport knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def peer_of(scope: Mapping[str, Any]) -> str:
    """Return the network peer, spelled as gRPC does."""
    client = scope.get("client")
    if client is None:
        return "unknown"
    host, port = client
    return f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"


def chain_of(scope: Mapping[str, Any]) -> tuple[bytes | None, bytes | None]:
    """Return the leaf that the peer presented, and the rest of its chain, as PEM; ``None`` for what it did not."""
    chain = scope["extensions"]["tls"]["client_cert_chain"]
    leaf = chain[0].encode() if chain else None
    return leaf, "".join(chain[1:]).encode() if len(chain) > 1 else None
