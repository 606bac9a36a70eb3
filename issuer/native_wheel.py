"""The optional wheel that is written in Rust (``transport/``), where it is of the release that this program needs."""

from typing import Final

import issuer_transport

INTERFACE: Final = 5
if issuer_transport.INTERFACE != INTERFACE:  # looked at first: another release may lack any of the names
    raise ImportError(f"it is of another release (interface {issuer_transport.INTERFACE}, not {INTERFACE})")

from issuer_transport import Allowance, Headers, Peer, Server, SigningKey  # noqa: E402 - see above

__all__ = ["Allowance", "Headers", "Peer", "Server", "SigningKey"]
