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
    """

    listen: str
    max_message_bytes: int
    max_metadata_bytes: int
    max_concurrent_streams: int
    max_connection_age: timedelta
    max_connection_age_grace: timedelta
