"""The transports that can be measured here."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

TRANSPORTS: Final = ("grpcio", "h2corn", "native")


def here() -> tuple[str, ...]:
    """Return those that are installed."""
    return tuple(transport for transport in TRANSPORTS if transport != "native" or find_spec("issuer_transport"))


def check(transport: str | None) -> None:
    """Do nothing for one that is installed.

    Raises:
        LookupError: It is not.
    """
    if transport is not None and transport not in here():
        raise LookupError(f"the {transport} transport is not installed (make transport)")
