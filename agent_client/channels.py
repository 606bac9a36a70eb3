"""A channel for each address, replaced when the SVID or the authorities change, closed when its last call has ended."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from agent_client.errors import ClientClosed

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_client.balancer import Attempt
    from agent_client.credentials import ChannelMaterial

Channel = TypeVar("Channel")


@dataclass(slots=True, eq=False)
class _Open(Generic[Channel]):
    channel: Channel
    calls: set[Attempt] = field(default_factory=set)


class ChannelPool(Generic[Channel]):
    """Keeps the channels for the newest material. It closes none itself: closing is an ``await`` for one of its users.

    A replaced channel keeps the calls that it has, so rotation ends no call. Thread-safe.

    Args:
        open_channel: Makes a channel to an address; it must not block.
    """

    def __init__(self, open_channel: Callable[[str, ChannelMaterial], Channel]) -> None:
        self._open = open_channel
        self._lock = threading.Lock()
        self._material: ChannelMaterial | None = None
        self._newest: dict[str, _Open[Channel]] = {}
        self._replaced: list[_Open[Channel]] = []
        self._closed = False

    def lease(self, attempt: Attempt, material: ChannelMaterial) -> Channel:
        """Return the channel to the attempt's address for ``material``. It stays open until :meth:`release`.

        Raises:
            ClientClosed: After :meth:`close`.
        """
        with self._lock:
            if self._closed:
                raise ClientClosed("this client is closed")
            if self._material != material:
                self._replaced += self._newest.values()
                self._material, self._newest = material, {}
            if attempt.address not in self._newest:
                self._newest[attempt.address] = _Open(self._open(attempt.address, material))
            leased = self._newest[attempt.address]
            leased.calls.add(attempt)
            return leased.channel

    def release(self, attempt: Attempt) -> list[Channel]:
        """Take the channel of ``attempt`` back, and return the channels to close now: replaced ones without calls.

        An attempt that has none is no fault: it may have been broken off anywhere.
        """
        with self._lock:
            for leased in (*self._newest.values(), *self._replaced):
                leased.calls.discard(attempt)
            idle = [replaced for replaced in self._replaced if not replaced.calls]
            self._replaced = [replaced for replaced in self._replaced if replaced.calls]
        return [replaced.channel for replaced in idle]

    def close(self) -> list[Channel]:
        """Give out no more channels, and return all there are, to be closed."""
        with self._lock:
            self._closed = True
            leases = [*self._replaced, *self._newest.values()]
            self._newest, self._replaced = {}, []
        return [lease.channel for lease in leases]

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closed
