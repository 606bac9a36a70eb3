"""What becomes of clients when their process forks.

gRPC does not survive a fork in which it is in use, whatever its settings say. Tried with grpcio 1.85, forking while a
client was open: with ``GRPC_ENABLE_FORK_SUPPORT=0``, calls of the child never end, not even at their deadline. Without
it, or with ``1``, most work, but the child hangs where another thread was in a call (gRPC holds a lock then), some
calls end with "Closed on fork", and some children abort. So a child does not touch what its parent had open, and makes
nothing new beside it: it is told so at once (:class:`~agent_client.errors.ClientForked`). What worked without fail, in
all three settings: a fork before any client was used, and one after all of them were closed.

The parent loses nothing. Only clients of this package are seen here: a program that uses gRPC itself has to mind forks.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING

from agent_client.errors import ClientForked

if TYPE_CHECKING:
    from collections.abc import Callable

_lock = threading.Lock()
_in_use = 0
_inherited = False
_callbacks: list[weakref.WeakMethod[Callable[[], None]]] = []
_kept: list[object] = []


def used() -> None:
    """Note that a client uses gRPC from now on."""
    global _in_use  # noqa: PLW0603 - a fork concerns the process, not one client
    with _lock:
        _in_use += 1


def unused() -> None:
    """Note that a client has given back all that it had of gRPC."""
    global _in_use  # noqa: PLW0603 - as above
    with _lock:
        _in_use -= 1


def refuse_inherited() -> None:
    """Refuse to use gRPC in the child of a process that had it in use.

    Raises:
        ClientForked: This is one.
    """
    if _inherited:
        raise ClientForked(
            "this process was forked while a client of the issuer was in use, and gRPC does not survive that: use "
            "clients after the fork only (a client that was made and not used is fine), close them before it, or start "
            'processes without a fork, as by multiprocessing.get_context("spawn")'
        )


def call_in_child(method: Callable[[], None]) -> None:
    """Call a bound method in every child of a fork, before anything else runs there. It is kept by a weak reference.

    Only the thread that forked exists there. Locks may be held by threads that do not, so the method makes new ones.
    """
    with _lock:
        _callbacks[:] = [callback for callback in _callbacks if callback() is not None]
        _callbacks.append(weakref.WeakMethod(method))


def keep(*inherited: object) -> None:
    """Keep what a parent had open until the child ends: taking it down would call gRPC."""
    _kept.extend(inherited)


def _begin_anew() -> None:
    global _lock, _in_use, _inherited  # noqa: PLW0603 - as above
    _lock = threading.Lock()
    _inherited = _inherited or _in_use > 0
    _in_use = 0
    for callback in _callbacks:
        method = callback()
        if method is not None:
            method()


os.register_at_fork(after_in_child=_begin_anew)
