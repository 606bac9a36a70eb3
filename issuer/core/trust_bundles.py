"""The authorities that verification asks about, as it sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from issuer.core.spiffe_id import SpiffeId, TrustDomain


class TrustBundles(Protocol):
    """The X.509 authorities of each trust domain, kept fresh by the Workload API."""

    @property
    def version(self) -> int:
        """A number that grows with every change of any bundle; part of the key of cached verdicts."""
        ...

    def authorities(self, trust_domain: TrustDomain) -> tuple[Certificate, ...] | None:
        """Return the authorities of one trust domain: ``None`` when it is unknown, ``()`` when its bundle is empty."""
        ...

    def trust_domains(self) -> frozenset[TrustDomain]:
        """Return every trust domain of which a bundle is known."""
        ...

    def own_id(self) -> SpiffeId:
        """Return the issuer's own SPIFFE ID.

        Raises:
            TemporarilyUnavailable: IDENTITY_UNAVAILABLE, when the issuer has no valid SVID of its own right now.
        """
        ...
