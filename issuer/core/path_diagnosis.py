"""Why no path was found, for people. Nothing here decides: the refusal stands whatever it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from issuer.core.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cryptography.x509 import Certificate

    from issuer.core.spiffe_id import TrustDomain
    from issuer.core.trust_bundles import TrustBundles


def why_no_path(
    leaf: Certificate, intermediates: Sequence[Certificate], trust_domain: TrustDomain, bundles: TrustBundles
) -> tuple[Reason, str]:
    """Return the reason and the message.

    Other trust domains' bundles are asked only here, and only to tell a caller that it presented what one of them
    certified.
    """
    if _leads_to(leaf, intermediates, bundles.authorities(trust_domain) or ()):
        message = "a certificate of the chain breaks a rule of RFC 5280, or its authority has expired"
        return Reason.CHAIN_INVALID, message
    for other in bundles.trust_domains() - {trust_domain}:
        if _leads_to(leaf, intermediates, bundles.authorities(other) or ()):
            message = f"the SPIFFE ID is of {trust_domain}, but the chain leads to the bundle of another trust domain"
            return Reason.TRUST_DOMAIN_MISMATCH, message
    message = f"the chain does not lead to an authority in the bundle of {trust_domain}"
    return Reason.CHAIN_INCOMPLETE, message


def _leads_to(leaf: Certificate, intermediates: Sequence[Certificate], authorities: Iterable[Certificate]) -> bool:
    """Return whether signatures lead from ``leaf`` to one of ``authorities``, whatever else is wrong."""
    authorities, current, unused = tuple(authorities), leaf, list(intermediates)
    while not any(_signed(current, authority) for authority in authorities):
        issuer = next((candidate for candidate in unused if _signed(current, candidate)), None)
        if issuer is None:
            return False
        unused.remove(issuer)
        current = issuer
    return True


def _signed(certificate: Certificate, issuer: Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
