"""What both clients hold: the issuer's endpoint, the watch over the Workload API, and the channel made from both."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

from agent_client.channels import ChannelPool
from agent_client.credentials import (
    caller_identity,
    channel_material,
    channel_options,
    pick_svid,
    refuse_outdated,
    tls_credentials,
)
from agent_client.endpoint import issuer_endpoint
from agent_client.errors import ClientClosed
from agent_client.retry import checked_timeout
from agent_client.workload_api import WorkloadApiWatcher
from agent_client.workload_api_errors import WorkloadApiError
from agent_client.workload_api_socket import socket_target

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import grpc

    from agent_client.credentials import ChannelMaterial
    from agent_client.token_checks import CallerIdentity
    from agent_client.workload_api import X509Context, X509Svid

Channel = TypeVar("Channel")


class ClientCore(Generic[Channel]):
    """The state of one client. Nothing runs before :meth:`start`. Thread-safe.

    Args:
        address: ``host:port`` of the issuer; without it, ``SPIFFE_ISSUER_ADDRESS`` decides.
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
        address: str | None,
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
        self.channels = ChannelPool(self._open)
        self._lock = threading.Lock()
        self._watcher: WorkloadApiWatcher | None = None
        self._made: tuple[X509Context, ChannelMaterial] | None = None

    def timeout(self, seconds: float | None) -> float:
        """Return the seconds that a call may take."""
        return self._timeout if seconds is None else checked_timeout(seconds)

    def start(self, on_context: Callable[[X509Context], None] | None = None) -> WorkloadApiWatcher:
        """Begin to follow the Workload API, unless that was done, and return the watcher.

        Args:
            on_context: Called with every context, in the watcher's thread. Only the first caller's counts.

        Raises:
            ClientClosed: The client was closed.
        """
        if (watcher := self._watcher) is not None and not self.channels.closed:
            return watcher
        with self._lock:
            if self.channels.closed:
                raise ClientClosed("this client is closed")
            if self._watcher is None:
                self._watcher = WorkloadApiWatcher(self._socket)
                if on_context is not None:
                    self._watcher.subscribe(on_context)
                self._watcher.start()
            return self._watcher

    def svid(self, now: datetime) -> X509Svid:
        """Return the identity to call with, as it is now.

        Raises:
            WorkloadApiError: There is none, not the one asked for, or one that has expired.
        """
        return self._identity(now)[1]

    def caller(self) -> CallerIdentity | None:
        """Return who this workload is now, be its SVID outdated; ``None`` while it has no identity to call with."""
        watcher = self._watcher
        if watcher is None:
            return None
        try:
            return caller_identity(pick_svid(watcher.current(), self._spiffe_id))
        except WorkloadApiError:
            return None

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

    def close(self) -> list[Channel]:
        """Stop following, and return the channels to close. May block for a moment. Closing twice does nothing."""
        with self._lock:
            channels = self.channels.close()
            watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.close()
        return channels

    def _identity(self, now: datetime) -> tuple[X509Context, X509Svid]:
        watcher = self.start()
        context = watcher.current()
        svid = pick_svid(context, self._spiffe_id)
        refuse_outdated(svid, now, watcher.last_error)
        return context, svid

    def _open(self, material: ChannelMaterial) -> Channel:
        return self._open_channel(self.endpoint.target, tls_credentials(material), channel_options(self.endpoint))
