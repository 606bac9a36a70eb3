"""The keys from the issuer's URL alone (RFC 8414)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_client.verification.key_sources import FETCH_SECONDS, FetchedKeys

if TYPE_CHECKING:
    import ssl
    from os import PathLike


class MetadataKeys:
    """The keys from the issuer's URL alone."""

    def __init__(
        self,
        issuer: str,
        *,
        ca_file: str | PathLike[str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        timeout: float = FETCH_SECONDS,
    ) -> None:
        raise NotImplementedError

    def fetch(self) -> FetchedKeys:
        """Discover the key set and fetch it."""
        raise NotImplementedError
