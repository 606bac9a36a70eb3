"""What becomes of clients when their process forks.

gRPC does not survive a fork in which it is in use, whatever ``GRPC_ENABLE_FORK_SUPPORT`` tells it. Tried with grpcio
1.85 while a client was open:

- By default, one child in five crashed by itself where a thread was amid gRPC: the watcher's always is. Calls of the
  child worked mostly, and hung where another thread was amid a call.
- With ``1``, the fork itself hung, in parent or child, where other threads were amid calls; asyncio's always is one.
- With ``0``, calls of the child never ended, not even at their deadline.
- In all three, taking down in the child what the parent had open could crash it.
- Where all was closed before, most children worked; of those with ``1`` one in seventy hung, on a busy machine.

So the watchers leave gRPC for the moment of a fork, which then harms nobody who is not amid a call; and a child of a
process that has used a client does not touch what its parent had, makes nothing new beside it, and is told so at once
(:class:`~agent_client.errors.ClientForked`). A child works with a client that was made before and used by nobody. The
parent loses nothing.

A fork amid calls of other threads is for ``GRPC_ENABLE_FORK_SUPPORT=0``: only then gRPC leaves the child alone. And
only clients of this package are seen here: a program that uses gRPC itself has to mind forks itself.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from typing import TYPE_CHECKING, Protocol

from agent_client.errors import ClientForked

if TYPE_CHECKING:
    from collections.abc import Callable

_lock = threading.Lock()
_watchers: list[Parkable] = []
_inherited = False
_was_used = False
_forking = threading.local()
_callbacks: list[weakref.WeakMethod[Callable[[], None]]] = []


class Parkable(Protocol):
    """What has a thread amid gRPC."""

    def park(self) -> None:
        """Leave gRPC alone until :meth:`resume`."""

    def resume(self) -> None:
        """Go on."""


def used(watcher: Parkable) -> None:
    """Note that a client uses gRPC from now on."""
    global _was_used  # noqa: PLW0603 - a fork concerns the process, not one client
    with _lock:
        _was_used = True
        _watchers.append(watcher)


def unused(watcher: Parkable) -> None:
    """Note that a client has given back all that it had of gRPC."""
    with _lock:
        _watchers.remove(watcher)


def refuse_inherited() -> None:
    """Refuse to use gRPC in the child of a process that has used it.

    Raises:
        ClientForked: This is one.
    """
    if _inherited:
        raise ClientForked(
            "this process was forked after a client of the issuer was used, and gRPC does not survive that: use "
            "clients after the fork only (a client that was made and not used is fine), or start processes without a "
            'fork, as by multiprocessing.get_context("spawn")'
        )


def call_in_child(method: Callable[[], None]) -> None:
    """Call a bound method in every child of a fork, before anything else runs there. It is kept by a weak reference.

    Only the thread that forked exists there. Locks may be held by threads that do not, so the method makes new ones.
    """
    with _lock:
        _callbacks[:] = [callback for callback in _callbacks if callback() is not None]
        _callbacks.append(weakref.WeakMethod(method))


def keep(inherited: object) -> None:
    """Never take down what a parent had open, not even when the child ends: that would call gRPC, and crash."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))


def _park() -> None:
    _forking.watchers = tuple(_watchers)
    for watcher in _forking.watchers:
        watcher.park()


def _resume() -> None:
    for watcher in _forking.watchers:
        watcher.resume()


def _begin_anew() -> None:
    global _lock, _inherited  # noqa: PLW0603 - a fork concerns the process, not one client
    _lock = threading.Lock()
    _inherited = _inherited or _was_used
    keep(tuple(_watchers))
    _watchers.clear()
    for callback in _callbacks:
        method = callback()
        if method is not None:
            method()


os.register_at_fork(before=_park, after_in_parent=_resume, after_in_child=_begin_anew)
