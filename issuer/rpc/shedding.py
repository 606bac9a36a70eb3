"""Lets a transport refuse calls by itself, of callers who ask for more than they get: then they cost no Python at all.

Whom, is found at the :class:`~issuer.rpc.door.Door`. From then on the transport counts what comes on that connection,
and whatever is beyond the caller's allowance it refuses with what it was given. The allowance is renewed with every
look, and ends by itself. Who is let through comes to the door as before.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Protocol

from issuer.rpc.asgi_wire import status_trailers
from issuer.rpc.status import status_from_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from issuer.core.errors import RateLimited
    from issuer.core.spiffe_id import SpiffeId
    from issuer.rpc.turns import Turns

MOST_CALLERS: Final = 64
"""Others are refused at the door, as every caller is on the other transports."""
LOOK_SECONDS: Final = 0.5
"""A look comes so often even where no call does, to count those that were refused."""

Trailers = list[tuple[bytes, bytes]]


class Allowance(Protocol):
    """How many calls of one caller a transport lets through."""

    def set(self, calls: int, seconds: float) -> int:
        """For so many seconds let at most so many come; return how many were refused since this was called last."""
        ...


class Peer(Protocol):
    """One connection, as its transport knows it."""

    def share(self, allowance: Any) -> None:  # noqa: ANN401 - one of the transport's own
        """Count what comes on it there, from now on."""
        ...


class Sheds(Protocol):
    """A transport that refuses by itself."""

    def new_allowance(self) -> Allowance:
        """Return one that is set to nothing, so refuses nobody."""
        ...

    def refuse_with(self, statuses: Sequence[Trailers], max_held: int) -> None:
        """Refuse with these from now on, with one after the other, and keep back at most so many at once."""
        ...


class Shedding:
    """Whom a transport refuses by itself. For one event loop.

    Args:
        turns: Those of the pipeline.
        transport: What refuses.
    """

    def __init__(self, turns: Turns, transport: Sheds) -> None:
        self._turns = turns
        self._transport = transport
        self._allowances: dict[SpiffeId, Allowance] = {}
        self._refusals: tuple[RateLimited, ...] = ()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, caller: SpiffeId, peer: Peer) -> None:
        """Have what comes on this connection looked at by the transport; :meth:`look` is to follow."""
        allowance = self._allowances.get(caller)
        if allowance is None:
            if len(self._allowances) >= MOST_CALLERS:
                return
            allowance = self._allowances[caller] = self._transport.new_allowance()
        peer.share(allowance)

    def look(self) -> None:
        """Tell the transport how many calls it may let through now, and count those that it refused."""
        for caller, allowance in tuple(self._allowances.items()):
            allowed = self._turns.allowance(caller)
            refused = allowance.set(*allowed or (0, 0.0))
            if refused:
                self._turns.refused_elsewhere(caller, refused)
            elif allowed is None:
                del self._allowances[caller]
        if self._allowances:
            self._tell_times()
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        self.look()

    def _tell_times(self) -> None:
        if self._refusals is not (refusals := self._turns.refusals):
            self._refusals = refusals
            statuses = [status_trailers(status_from_error(each, "")) for each in refusals]
            self._transport.refuse_with(statuses, self._turns.most_held)
