"""The chain from a leaf to an authority of one trust domain's bundle (RFC 5280 section 6, X509-SVID section 5).

1. No more intermediates were presented than a chain may have.
2. Each of them is valid now, and belongs to the leaf's trust domain where it names one.
3. Signatures, CA flags, path lengths and algorithms hold, up to an authority of the bundle.
4. Name constraints hold, where a certificate of the chain carries them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509.verification import ExtensionPolicy, PolicyBuilder, Store, VerificationError
from OpenSSL import crypto

from issuer.core.errors import CallerNotVerified, Reason
from issuer.core.spiffe_id import SCHEME

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from cryptography.x509 import Certificate

    from issuer.core.spiffe_id import TrustDomain
    from issuer.core.trust_bundles import TrustBundles

MAX_INTERMEDIATES = 5
"""Deployed hierarchies have one to three; each one more is work that a caller makes us do."""
MIN_RSA_BITS = 2048
_HASHES = frozenset({"sha256", "sha384", "sha512"})
_NAME_CONSTRAINT_FAULTS = frozenset({47, 48, 49, 51, 52, 53, 54})
"""OpenSSL's X509_V_ERR_PERMITTED_VIOLATION, EXCLUDED_VIOLATION, SUBTREE_MINMAX and the UNSUPPORTED_... that follow."""


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
    for intermediate in intermediates:  # 2
        _check_intermediate(intermediate, trust_domain, now)
    verify = _path_with_name_constraints if _constrained([*intermediates, *authorities]) else _path_without
    try:
        chain = verify(leaf, intermediates, authorities, now)  # 3, 4
    except (VerificationError, ValueError) as error:
        reason, message = _why_refused(leaf, intermediates, trust_domain, authorities, bundles)
        raise CallerNotVerified(reason, message) from error
    if any(map(_is_weak, chain[:-1])):
        raise CallerNotVerified(Reason.CHAIN_INVALID, "the chain has a signature or a key that is too weak")
    return min(certificate.not_valid_after_utc for certificate in chain)


def _check_intermediate(intermediate: Certificate, trust_domain: TrustDomain, now: datetime) -> None:
    if not intermediate.not_valid_before_utc <= now <= intermediate.not_valid_after_utc:
        message = "an intermediate is outside its validity period"
        raise CallerNotVerified(Reason.CHAIN_INTERMEDIATE_EXPIRED, message)
    # X509-SVID section 3.1: a signing certificate that names a SPIFFE ID names its trust domain.
    if any(uri != f"{SCHEME}{trust_domain}" for uri in _uris(intermediate)):
        message = "an intermediate belongs to another trust domain than the leaf"
        raise CallerNotVerified(Reason.CHAIN_INTERMEDIATE_FOREIGN, message)


def _uris(certificate: Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise CallerNotVerified(Reason.SVID_MALFORMED, "an intermediate's extensions cannot be parsed") from error
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def _path_without(
    leaf: Certificate, intermediates: Sequence[Certificate], authorities: Sequence[Certificate], now: datetime
) -> Sequence[Certificate]:
    verifier = (
        PolicyBuilder()
        .store(Store(list(authorities)))
        .time(now)
        .max_chain_depth(MAX_INTERMEDIATES)
        # The leaf's extensions are checked by our own rules, which are SPIFFE's and not those of the Web PKI.
        .extension_policies(ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=ExtensionPolicy.permit_all())
        .build_client_verifier()
    )
    return verifier.verify(leaf, list(intermediates)).chain


def _path_with_name_constraints(
    leaf: Certificate, intermediates: Sequence[Certificate], authorities: Sequence[Certificate], now: datetime
) -> Sequence[Certificate]:
    # `cryptography` knows no name constraints on URIs and refuses even a chain that keeps to them; OpenSSL knows them.
    store = crypto.X509Store()
    for authority in authorities:
        store.add_cert(crypto.X509.from_cryptography(authority))
    store.set_flags(crypto.X509StoreFlags.X509_STRICT | crypto.X509StoreFlags.PARTIAL_CHAIN)
    store.set_time(now.replace(tzinfo=None))
    presented = [crypto.X509.from_cryptography(intermediate) for intermediate in intermediates]
    context = crypto.X509StoreContext(store, crypto.X509.from_cryptography(leaf), presented)
    try:
        return [certificate.to_cryptography() for certificate in context.get_verified_chain()]
    except crypto.X509StoreContextError as error:
        if error.errors[0] in _NAME_CONSTRAINT_FAULTS:
            message = "the SPIFFE ID is outside the name constraints of its chain"
            raise CallerNotVerified(Reason.CHAIN_NAME_CONSTRAINTS, message) from error
        raise ValueError(str(error)) from error


def _constrained(certificates: Iterable[Certificate]) -> bool:
    return any(
        extension.oid == x509.OID_NAME_CONSTRAINTS
        for certificate in certificates
        for extension in certificate.extensions
    )


def _is_weak(certificate: Certificate) -> bool:
    """Return whether a certificate's signature or key is one that RFC 9155 and NIST SP 800-131A retired."""
    algorithm = certificate.signature_hash_algorithm
    key = certificate.public_key()
    return (algorithm is not None and algorithm.name not in _HASHES) or (
        isinstance(key, RSAPublicKey) and key.key_size < MIN_RSA_BITS
    )


def _why_refused(
    leaf: Certificate,
    intermediates: Sequence[Certificate],
    trust_domain: TrustDomain,
    authorities: Sequence[Certificate],
    bundles: TrustBundles,
) -> tuple[Reason, str]:
    """Return the reason for a chain that was refused. Only words depend on it: the refusal stands."""
    if _leads_to(leaf, intermediates, authorities):
        return Reason.CHAIN_INVALID, "a certificate of the chain breaks a rule of RFC 5280"
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
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
