"""What the public HTTP listener is told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class PublicHttpError(Exception):
    """The listener cannot be started. The message names the setting and what to do, for a person."""


@dataclass(frozen=True, slots=True)
class PublicHttpSettings:
    """Where to listen, and how.

    Attributes:
        listen: ``host:port``, an IPv6 address in brackets; port 0 takes a free one.
        tls_certificate: PEM file of the chain, leaf first; with ``tls_key``. Both are read again when they change.
        tls_key: PEM file of the private key, not encrypted.
        behind_tls_proxy: Something in front ends TLS, so plain HTTP is right on any address.
        key_set_max_age: How long a verifier may keep the key set without asking again.

    Raises:
        PublicHttpError: Only one of certificate and key, or both and ``behind_tls_proxy``.
    """

    listen: str = "127.0.0.1:8080"
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    behind_tls_proxy: bool = False
    key_set_max_age: timedelta = timedelta(minutes=5)

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if (self.tls_certificate is None) != (self.tls_key is None):
            missing = "tls_key" if self.tls_key is None else "tls_certificate"
            raise PublicHttpError(f"[http] {missing} is missing: HTTPS needs both tls_certificate and tls_key")
        if self.tls_certificate is not None and self.behind_tls_proxy:
            raise PublicHttpError("[http] behind_tls_proxy means plain HTTP: remove it, or tls_certificate and tls_key")

    @property
    def scheme(self) -> str:
        """``https`` or ``http``, as this listener speaks it."""
        return "http" if self.tls_certificate is None else "https"
