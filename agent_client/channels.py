"""One channel at a time, replaced when the SVID or the authorities change, closed when its last call has ended."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from agent_client.errors import ClientClosed

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_client.credentials import ChannelMaterial

Channel = TypeVar("Channel")


@dataclass(slots=True, eq=False)
class Lease(Generic[Channel]):
    """A channel, and how many calls use it."""

    channel: Channel
    material: ChannelMaterial
    calls: int = 0


class ChannelPool(Generic[Channel]):
    """Keeps the channel for the newest material. It closes none itself: closing is an ``await`` for one of its users.

    A replaced channel keeps the calls that it has, so rotation ends no call. Thread-safe.

    Args:
        open_channel: Makes a channel; it must not block.
    """

    def __init__(self, open_channel: Callable[[ChannelMaterial], Channel]) -> None:
        self._open = open_channel
        self._lock = threading.Lock()
        self._newest: Lease[Channel] | None = None
        self._replaced: list[Lease[Channel]] = []
        self._closed = False

    def lease(self, material: ChannelMaterial) -> Lease[Channel]:
        """Return the channel for ``material``, counting one more call on it. Give it back with :meth:`release`.

        Raises:
            ClientClosed: After :meth:`close`.
        """
        with self._lock:
            if self._closed:
                raise ClientClosed("this client is closed")
            if self._newest is None or self._newest.material != material:
                replaced, self._newest = self._newest, Lease(self._open(material), material)
                if replaced is not None:
                    self._replaced.append(replaced)
            self._newest.calls += 1
            return self._newest

    def release(self, lease: Lease[Channel]) -> list[Channel]:
        """Count one call less, and return the channels to close now: replaced ones without calls."""
        with self._lock:
            lease.calls -= 1
            idle = [replaced for replaced in self._replaced if not replaced.calls]
            self._replaced = [replaced for replaced in self._replaced if replaced.calls]
        return [replaced.channel for replaced in idle]

    def close(self) -> list[Channel]:
        """Give out no more channels, and return all there are, to be closed."""
        with self._lock:
            self._closed = True
            leases = self._replaced + ([self._newest] if self._newest else [])
            self._newest, self._replaced = None, []
        return [lease.channel for lease in leases]

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closed
