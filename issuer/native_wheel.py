"""The optional wheel that is written in Rust (``transport/``), where it is of the release that this program needs."""

from typing import Final

import issuer_transport
from issuer_transport import Allowance, Headers, Peer, Server, SigningKey

__all__ = ["Allowance", "Headers", "Peer", "Server", "SigningKey"]

INTERFACE: Final = 4
if issuer_transport.INTERFACE != INTERFACE:
    raise ImportError(f"it is of another release (interface {issuer_transport.INTERFACE}, not {INTERFACE})")
