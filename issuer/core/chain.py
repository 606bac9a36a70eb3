"""The chain from a leaf to an authority of one trust domain's bundle (RFC 5280 section 6, X509-SVID section 5).

1. No more intermediates were presented than a chain may have.
2. The keys and signatures of what was presented are strong.
3. Every intermediate is a CA, of the leaf's trust domain where it names one (X509-SVID section 3.2), and valid now.
4. The authorities that count are those of the bundle that are CAs, have strong keys and are valid now. In 3 and 4, a
   critical extension that is not understood makes it none (RFC 5280 section 4.2).
5. A path leads to one of them: signatures and path lengths hold (:mod:`issuer.core.path`).
6. It keeps to its name constraints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from issuer.core.errors import CallerNotVerified, Reason
from issuer.core.extensions import UNPARSABLE, extensions_of, not_understood, optional, uris_of
from issuer.core.path import NameConstraintsViolated, PathNotFound, find_path
from issuer.core.path_diagnosis import why_no_path
from issuer.core.spiffe_id import SCHEME

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cryptography.x509 import Certificate, Extensions

    from issuer.core.spiffe_id import TrustDomain
    from issuer.core.trust_bundles import TrustBundles

MAX_INTERMEDIATES = 5
"""Deployed hierarchies have one to three; each one more is work that a caller makes us do."""
MIN_RSA_BITS = 2048
"""NIST SP 800-131A: less was retired in 2014."""
_HASHES = frozenset({"sha256", "sha384", "sha512"})
_CURVES = frozenset({"secp256r1", "secp384r1", "secp521r1"})
# Ours and not the engines' of issuer.core.path: OpenSSL also lets policy constraints and others pass, and does nothing
# about them. Which engine looks must not decide, for a caller chooses it by what it presents.
_UNDERSTOOD = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    }
)
_CA_PURPOSES = frozenset({ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE})


def verify_chain(
    leaf: Certificate,
    intermediates: Sequence[Certificate],
    *,
    trust_domain: TrustDomain,
    authorities: Sequence[Certificate],
    bundles: TrustBundles,
    now: datetime,
) -> datetime:
    """Verify the chain; the steps are those of the module's docstring.

    Args:
        leaf: Whose own rules were checked.
        intermediates: What was presented with it, in any order.
        trust_domain: The leaf's.
        authorities: The bundle of that trust domain, not empty.
        bundles: All bundles, asked only to tell why a chain was refused.
        now: The time of the request, UTC.

    Returns:
        The last moment (UTC) at which every certificate of the chain is valid.

    Raises:
        CallerNotVerified: With the reason of the rule that is broken.
    """
    if len(intermediates) > MAX_INTERMEDIATES:  # 1
        message = f"more than {MAX_INTERMEDIATES} intermediates were presented"
        raise CallerNotVerified(Reason.CHAIN_TOO_LONG, message)
    for certificate in (leaf, *intermediates):  # 2
        _check_strength(certificate)
    for intermediate in intermediates:  # 3
        _check_intermediate(intermediate, trust_domain, now)
    usable = [authority for authority in authorities if _is_usable(authority, now)]  # 4
    try:
        path = find_path(leaf, intermediates, usable, now=now, max_intermediates=MAX_INTERMEDIATES)  # 5, 6
    except NameConstraintsViolated as error:
        message = "a name of the certificate is outside the name constraints of its chain"
        raise CallerNotVerified(Reason.CHAIN_NAME_CONSTRAINTS, message) from error
    except PathNotFound as error:
        raise CallerNotVerified(*why_no_path(leaf, intermediates, trust_domain, bundles)) from error
    return min(certificate.not_valid_after_utc for certificate in path)


def _check_strength(certificate: Certificate) -> None:
    try:
        algorithm = certificate.signature_hash_algorithm
    except (*UNPARSABLE, UnsupportedAlgorithm):
        algorithm = None
    if algorithm is None or algorithm.name not in _HASHES:
        raise CallerNotVerified(Reason.CHAIN_INVALID, "a signature of the chain uses none of SHA-256, -384 and -512")
    # X.690 section 8.6.2.2: how many bits of the last byte are unused. The signature does not cover that number, so any
    # other than zero makes a second certificate, with another fingerprint, of the one that was signed.
    if certificate.public_bytes(Encoding.DER)[-len(certificate.signature) - 1] != 0:
        raise CallerNotVerified(Reason.CHAIN_INVALID, "a signature of the chain is not a whole number of bytes")
    _check_key(certificate)


def _check_key(certificate: Certificate) -> None:
    try:
        key = certificate.public_key()
    except (*UNPARSABLE, UnsupportedAlgorithm):
        key = None
    strong_rsa = isinstance(key, rsa.RSAPublicKey) and key.key_size >= MIN_RSA_BITS
    known_curve = isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES
    if not strong_rsa and not known_curve:
        message = f"a key of the chain is neither RSA of {MIN_RSA_BITS} bits or more nor on P-256, P-384 or P-521"
        raise CallerNotVerified(Reason.CHAIN_INVALID, message)


def _check_intermediate(intermediate: Certificate, trust_domain: TrustDomain, now: datetime) -> None:
    extensions = extensions_of(intermediate, "an intermediate")
    _check_ca(extensions)
    if any(uri != f"{SCHEME}{trust_domain}" for uri in uris_of(extensions)):
        message = f"an intermediate has another URI SAN than that of the leaf's trust domain, {SCHEME}{trust_domain}"
        raise CallerNotVerified(Reason.CHAIN_INTERMEDIATE_FOREIGN, message)
    if not _is_valid(intermediate, now):
        message = "an intermediate is outside its validity period"
        raise CallerNotVerified(Reason.CHAIN_INTERMEDIATE_EXPIRED, message)


def _check_ca(extensions: Extensions) -> None:
    """Check that a certificate may sign those of TLS clients (RFC 5280 sections 4.2, 4.2.1.9, 4.2.1.3 and 4.2.1.12)."""
    if oid := not_understood(extensions, _UNDERSTOOD):
        message = f"a certificate of the chain has a critical extension that is not understood: {oid}"
        raise CallerNotVerified(Reason.CHAIN_INVALID, message)
    constraints = optional(extensions, x509.BasicConstraints)
    usage = optional(extensions, x509.KeyUsage)
    purposes = optional(extensions, x509.ExtendedKeyUsage)
    if (
        constraints is None
        or not (constraints.critical and constraints.value.ca)
        or usage is None
        or not usage.value.key_cert_sign
        or (purposes is not None and _CA_PURPOSES.isdisjoint(purposes.value))
    ):
        raise CallerNotVerified(Reason.CHAIN_INVALID, "a certificate of the chain may not sign those of TLS clients")


def _is_valid(certificate: Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def _is_usable(authority: Certificate, now: datetime) -> bool:
    """Return whether a path may end here. A bundle's unusable authority costs only those who depend on it."""
    try:
        _check_key(authority)
        _check_ca(extensions_of(authority, "an authority"))
    except CallerNotVerified:
        return False
    return _is_valid(authority, now)
