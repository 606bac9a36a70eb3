"""What both clients hold: the issuer's addresses, the watch over the Workload API, and the channels made from both."""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import TYPE_CHECKING, Generic, TypeVar

from agent_client import forks
from agent_client.balancer import Balancer
from agent_client.channels import ChannelPool
from agent_client.credentials import (
    caller_of,
    channel_material,
    channel_options,
    pick_svid,
    refuse_outdated,
    tls_credentials,
)
from agent_client.endpoint import issuer_endpoint, target
from agent_client.errors import ClientClosed
from agent_client.failover import Course, counts_against, is_of_address
from agent_client.retry import checked_timeout
from agent_client.workload_api import WorkloadApiWatcher
from agent_client.workload_api_errors import WorkloadApiError
from agent_client.workload_api_socket import socket_target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    import grpc

    from agent_client.balancer import Attempt
    from agent_client.credentials import ChannelMaterial
    from agent_client.errors import IssuerRequestError
    from agent_client.token_checks import CallerIdentity
    from agent_client.workload_api import X509Context, X509Svid

Channel = TypeVar("Channel")
_logger = logging.getLogger("agent_client")


class ClientCore(Generic[Channel]):
    """The state of one client. Nothing runs before :meth:`start`. Thread-safe.

    In the child of a fork it is as if new, and empty: what the parent's had open stays the parent's.

    Args:
        address: ``host:port`` of the issuer, or of several; without it, ``SPIFFE_ISSUER_ADDRESS`` decides.
        open_channel: Opens a channel from a target, credentials and options.
        workload_api: The Workload API's socket; without it, ``SPIFFE_ENDPOINT_SOCKET`` decides.
        spiffe_id: The identity to call with; without it, the default one.
        issuer_dns_name: The DNS name of the issuer's registration entry.
        issuer_trust_domain: The issuer's trust domain, where it is not the caller's own.
        timeout: Seconds for a call that names none.

    Raises:
        ClientNotConfigured: The issuer's address, name or trust domain is missing or malformed.
        WorkloadApiNotConfigured: The socket is.
        ValueError: The timeout is not positive.
    """

    def __init__(
        self,
        address: str | Sequence[str] | None,
        open_channel: Callable[[str, grpc.ChannelCredentials, list[tuple[str, str | int]]], Channel],
        *,
        workload_api: str | None,
        spiffe_id: str | None,
        issuer_dns_name: str,
        issuer_trust_domain: str | None,
        timeout: float,
    ) -> None:
        self.endpoint = issuer_endpoint(address, issuer_dns_name, issuer_trust_domain)
        self._socket = socket_target(workload_api)
        self._spiffe_id = spiffe_id
        self._timeout = checked_timeout(timeout)
        self._open_channel = open_channel
        self._subscribers: list[Callable[[X509Context], None]] = [self._remember_caller]
        self._closed = False
        self._reset()
        forks.call_in_child(self._begin_anew)

    def _reset(self) -> None:
        # Shuffled: of many workloads that call but once, each would else begin with the first.
        addresses = random.sample(self.endpoint.addresses, len(self.endpoint.addresses))
        self.balancer = Balancer(addresses)
        self.channels: ChannelPool[Channel] = ChannelPool(self._open)
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._watcher: WorkloadApiWatcher | None = None
        self._made: tuple[X509Context, ChannelMaterial] | None = None
        self._caller: CallerIdentity | None = None
        if self._closed:
            self.close()

    def timeout(self, seconds: float | None) -> float:
        """Return the seconds that a call may take."""
        return self._timeout if seconds is None else checked_timeout(seconds)

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closed

    @property
    def caller(self) -> CallerIdentity | None:
        """Who calls, by the newest context; ``None`` before the first, and where it has not the identity asked for.

        Costs nothing, and is not compared with the clock. Brought up to date before subscribers are called.
        """
        return self._caller

    def subscribe(self, callback: Callable[[X509Context], None]) -> None:
        """Call ``callback`` with every new context, in the watcher's thread. It must not block.

        One that is there already is not told: see :attr:`caller`.
        """
        with self._lock:
            self._subscribers.append(callback)
            if self._watcher is not None:
                self._watcher.subscribe(callback)

    def on_fork(self, method: Callable[[], None]) -> None:
        """Call a bound method in every child of a fork, before anything else runs there. It is kept weakly.

        Threads of the parent are gone there, and its locks may stay locked: make new ones. What the parent was issued
        is not the child's.
        """
        forks.call_in_child(method)

    def start(self) -> WorkloadApiWatcher:
        """Begin to follow the Workload API, unless that was done, and return the watcher.

        Raises:
            ClientClosed: The client was closed.
            ClientForked: This process was forked while a client was in use.
        """
        if (watcher := self._watcher) is not None and not self._closed:
            return watcher
        with self._lock:
            if self._closed:
                raise ClientClosed("this client is closed")
            forks.refuse_inherited()
            if self._watcher is None:
                self._watcher = self._started_watcher()
            return self._watcher

    def svid(self, now: datetime) -> X509Svid:
        """Return the identity to call with, as it is now.

        Raises:
            WorkloadApiError: There is none, not the one asked for, or one that has expired.
        """
        return self._identity(now)[1]

    def material(self, now: datetime) -> ChannelMaterial:
        """Return what to connect with, as it is now.

        Raises:
            WorkloadApiError: As :meth:`svid`; or the issuer's trust domain has no authorities.
        """
        context, svid = self._identity(now)
        made = self._made
        if made is None or made[0] is not context:
            made = self._made = context, channel_material(context, svid, self.endpoint.trust_domain)
        return made[1]

    def course(self, seconds: float | None) -> Course:
        """Return the way of one call, which begins now and may take so many seconds."""
        return Course(self.balancer, time.monotonic() + self.timeout(seconds))

    def begin(self, course: Course, attempt: Attempt, material: ChannelMaterial) -> Channel:
        """Begin an attempt, and return the channel for it. Whatever happens, :meth:`end` it."""
        course.begin(attempt, time.monotonic())
        return self.channels.lease(attempt, material)

    def end(self, attempt: Attempt) -> list[Channel]:
        """End an attempt, begun or not, and return the channels to close now."""
        self.balancer.end(attempt)
        return self.channels.release(attempt)

    def succeeded(self, attempt: Attempt) -> None:
        """Take in that an issuer answered."""
        if self.balancer.succeeded(attempt) and len(self.balancer.addresses) > 1:
            _logger.info("the issuer at %s answers again", attempt.address)

    def failed(self, course: Course, attempt: Attempt, failure: IssuerRequestError) -> float | None:
        """Take in how an attempt failed. Return the seconds until the next; ``None`` when there is to be none."""
        now = time.monotonic()
        failure.address = attempt.address
        if not is_of_address(failure):
            self.succeeded(attempt)
        elif counts_against(failure, attempt.seconds):
            at_least = failure.retry_after.total_seconds() if failure.retry_after else 0.0
            if self.balancer.failed(attempt, now, at_least) and len(self.balancer.addresses) > 1:
                _logger.warning("the issuer at %s is left out for a while: %s", attempt.address, failure.message)
        return course.pause_after(attempt, failure, now)

    def close(self) -> list[Channel]:
        """End all waiting, give out no more channels, and return those that are to be closed. Does not block."""
        with self._lock:
            self._closed = True
            self.closing.set()
            return self.channels.close()

    def stop_watching(self) -> None:
        """Wait for the watcher to end. To be called after :meth:`close`, with the channels closed. May block."""
        with self._lock:
            watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.close()
            forks.unused(watcher)

    def _started_watcher(self) -> WorkloadApiWatcher:
        watcher = WorkloadApiWatcher(self._socket)
        for callback in self._subscribers:
            watcher.subscribe(callback)
        forks.used(watcher)
        try:
            watcher.start()
        except BaseException:  # no thread is to be had now: the next call tries again
            forks.unused(watcher)
            raise
        return watcher

    def _identity(self, now: datetime) -> tuple[X509Context, X509Svid]:
        watcher = self.start()
        context = watcher.current()
        svid = pick_svid(context, self._spiffe_id)
        refuse_outdated(svid, now, watcher.last_error)
        return context, svid

    def _remember_caller(self, context: X509Context) -> None:
        try:
            self._caller = caller_of(pick_svid(context, self._spiffe_id))
        except WorkloadApiError:
            self._caller = None

    def _open(self, address: str, material: ChannelMaterial) -> Channel:
        return self._open_channel(target(address), tls_credentials(material), channel_options(self.endpoint))

    def _begin_anew(self) -> None:
        """Forget the parent's connections, in the child of a fork. They are not the child's to close."""
        forks.keep(self.channels)
        self._reset()
