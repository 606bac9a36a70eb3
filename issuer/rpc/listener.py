"""What carries calls to the handlers: the one thing in which transports differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from issuer.ports import ServerIdentity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import grpc


class AddressInUse(OSError):
    """The address to listen on is taken or not ours to take. The message is for a person.

    Args:
        address: ``host:port``.
    """

    def __init__(self, address: str) -> None:
        super().__init__(f"cannot listen on {address}: the address is in use or not one of this machine")


class CannotListen(Exception):
    """Calls cannot be accepted, for another reason than the address. The message is for a person."""


class ChangingIdentity(ServerIdentity, Protocol):
    """The issuer's own SVID, and word of its changes."""

    def subscribe(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` after every update, from whichever thread."""
        ...


class Listener(Protocol):
    """A server of gRPC handlers over mutual TLS, on one address."""

    def bind(self) -> int:
        """Take the address and return the port.

        Raises:
            AddressInUse: When it cannot be taken.
        """
        ...

    async def start(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Accept calls.

        Raises:
            CannotListen: When that is not possible.
        """
        ...

    async def stop(self, grace: float) -> None:
        """Accept no more, and give calls in flight up to so many seconds to end."""
        ...
