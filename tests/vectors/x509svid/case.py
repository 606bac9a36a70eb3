"""What a case is, and the trust domains that most cases share."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509
from vectors.x509svid.certificates import authority

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vectors.x509svid.certificates import Issued

CLOCK = datetime(2026, 6, 1, 12, tzinfo=UTC)
PAST = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC))
FUTURE = (datetime(2124, 1, 1, tzinfo=UTC), datetime(2125, 1, 1, tzinfo=UTC))

WORKLOAD = "spiffe://prod.example/ns/payments/sa/settler"
VERIFIER_ID = "spiffe://prod.example/spiffe-issuer"
ALLOWED = ("prod.example", "partner.example", "absent.example")

PROD = authority("prod root", "prod.example")
PARTNER = authority("partner root", "partner.example")
STRANGER = authority("stranger root", "stranger.example")
BUNDLES = {"prod.example": (PROD,), "partner.example": (PARTNER,), "stranger.example": (STRANGER,)}


@dataclass(frozen=True)
class Case:
    """One presented chain and what a verifier must say to it.

    Attributes:
        name: The folder's name.
        about: What is special about it, in a sentence.
        specification: The rule.
        leaf: The presented leaf.
        reason: Why it must be refused; ``None`` when it must be accepted.
        chain: What is presented after the leaf.
        bundles: What the verifier knows.
        allowed: The trust domains that may call.
        now: The verifier's clock.
        any_time: Whether the verdict is the same at every moment from 2026 to 2100.
    """

    name: str
    about: str
    specification: str
    leaf: Issued
    reason: str | None = None
    chain: tuple[Issued, ...] = ()
    bundles: Mapping[str, tuple[Issued, ...]] = field(default_factory=lambda: BUNDLES)
    allowed: tuple[str, ...] = ALLOWED
    now: datetime = CLOCK
    any_time: bool = True


def prod_bundle(*authorities: Issued) -> dict[str, tuple[Issued, ...]]:
    """Return the shared bundles, with other authorities for prod.example."""
    return {**BUNDLES, "prod.example": authorities}


def uri(text: str) -> x509.UniformResourceIdentifier:
    """Return a URI SAN."""
    return x509.UniformResourceIdentifier(text)


def dns(name: str) -> x509.DNSName:
    """Return a DNS SAN."""
    return x509.DNSName(name)
