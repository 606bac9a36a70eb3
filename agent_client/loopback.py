"""Which host names are this machine. Pure: nothing is resolved."""

from __future__ import annotations

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Return whether a host, as a URL names it and without brackets, is this machine whatever a resolver says."""
    if host.lower() == "localhost":
        return True  # RFC 6761 section 6.3
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
