"""What the gRPC server can be told. ``app.py`` fills it from the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta


@dataclass(frozen=True, slots=True)
class RpcSettings:
    """Limits of the gRPC server.

    Attributes:
        listen: ``host:port``; port 0 takes a free one.
        max_message_bytes: The largest message accepted or sent.
        max_metadata_bytes: The largest metadata of a call.
        max_concurrent_streams: Calls at once on one connection.
        max_connection_age: After so long a connection is asked to go away, so that callers show fresh SVIDs.
        max_connection_age_grace: How long its calls may then still take.
        max_connections: Connections at once, those in their handshake with them; more are closed when they come.
        handshake_timeout: How long a connection may take to prove itself.
        max_connection_idle: After so long without a call a connection is asked to go away.
        keepalive_time: A connection that is silent for so long is asked whether its peer is still there.
        keepalive_timeout: How long it may take to answer.
        min_ping_interval: A peer that asks the same more often, three times, loses its connection.
        shares_port: Other workers of this issuer listen on the same port, and the kernel gives each its connections.
    """

    listen: str
    max_message_bytes: int
    max_metadata_bytes: int
    max_concurrent_streams: int
    max_connection_age: timedelta
    max_connection_age_grace: timedelta
    max_connections: int
    handshake_timeout: timedelta
    max_connection_idle: timedelta
    keepalive_time: timedelta
    keepalive_timeout: timedelta
    min_ping_interval: timedelta
    shares_port: bool = False
