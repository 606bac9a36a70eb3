"""How a token travels over HTTP: in one header (RFC 6750 section 2.1), and never in the clear (section 5.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_client.loopback import is_loopback
from agent_client.resource_errors import InsecureTransport

if TYPE_CHECKING:
    from agent_client.answers import IssuedToken

AUTHORIZATION = "Authorization"
_ENCRYPTED = frozenset({"https", "wss"})


def bearer(issued: IssuedToken) -> str:
    """Return the value of the ``Authorization`` header. Keep it in no variable: tracebacks may show those."""
    return f"Bearer {issued.token.reveal()}"


def require_private(scheme: str, host: str | None, *, insecure_http: bool) -> None:
    """Let a token go only over TLS, or to this machine.

    **Not** checked: that the TLS certificate is verified, and that no proxy is between a client and its own loopback;
    both are settings of the HTTP client.

    Args:
        scheme: That of the request's URL.
        host: The name or address in it.
        insecure_http: Whoever set the adapter up takes the risk.

    Raises:
        InsecureTransport: The network could read the token.
    """
    if insecure_http or scheme.lower() in _ENCRYPTED or is_loopback(host or ""):
        return
    raise InsecureTransport(
        f"the request goes to {scheme}://{host} and would show its token to the network: use https, "
        "or say insecure_http=True where the network is nobody else's"
    )
