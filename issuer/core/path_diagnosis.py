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

MAX_SIGNATURES = 64
"""How many signatures are checked for one explanation, at 0.1 ms each on the event loop. Without a bound it would be as
many as a federated trust domain has authorities of one name, which is up to that domain, times what a caller presents.
Past it the reason is the general one."""


def why_no_path(
    leaf: Certificate, intermediates: Sequence[Certificate], trust_domain: TrustDomain, bundles: TrustBundles
) -> tuple[Reason, str]:
    """Return the reason and the message.

    Other trust domains' bundles are asked only here, and only to tell a caller that it presented what one of them
    certified.
    """
    signatures = _Signatures()
    presented = signatures.climb(leaf, intermediates)
    if signatures.lead(presented, bundles.authorities(trust_domain) or ()):
        message = "a certificate of the chain breaks a rule of RFC 5280, or its authority has expired"
        return Reason.CHAIN_INVALID, message
    for other in sorted(bundles.trust_domains() - {trust_domain}):
        if signatures.lead(presented, bundles.authorities(other) or ()):
            message = f"the SPIFFE ID is of {trust_domain}, but the chain leads to the bundle of another trust domain"
            return Reason.TRUST_DOMAIN_MISMATCH, message
    message = f"the chain does not lead to an authority in the bundle of {trust_domain}"
    return Reason.CHAIN_INCOMPLETE, message


class _Signatures:
    """Looks at who signed whom, whatever else is wrong, until :data:`MAX_SIGNATURES` were checked."""

    def __init__(self) -> None:
        self._left = MAX_SIGNATURES

    def climb(self, leaf: Certificate, intermediates: Iterable[Certificate]) -> list[Certificate]:
        """Return ``leaf``, the intermediate that signed it, the one that signed that, and so on."""
        climbed, unused = [leaf], list(intermediates)
        while above := next((candidate for candidate in unused if self._made(climbed[-1], candidate)), None):
            unused.remove(above)
            climbed.append(above)
        return climbed

    def lead(self, presented: Iterable[Certificate], authorities: Sequence[Certificate]) -> bool:
        """Return whether one of ``authorities`` signed one of ``presented``."""
        return any(self._made(certificate, authority) for certificate in presented for authority in authorities)

    def _made(self, certificate: Certificate, issuer: Certificate) -> bool:
        if not self._left:
            return False
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, UnsupportedAlgorithm):  # another name or kind of key: no signature was checked
            return False
        except InvalidSignature:
            self._left -= 1
            return False
        self._left -= 1
        return True
