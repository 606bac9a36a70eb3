"""Verification of a caller's X.509-SVID, after TLS and independent of it (X509-SVID sections 3 to 5).

TLS checks a certificate against one flat pool of roots over all trust domains that may call. That lets trust domain B
certify ``spiffe://A/admin``. So everything is verified again here, against the bundle of the SPIFFE ID's own trust
domain and no other.

1. The leaf can be parsed, its serial number is positive and of 20 bytes at most (RFC 5280 section 4.1.2.2), and every
   critical extension of it is one that is understood (section 4.2).
2. It has exactly one URI SAN; the extension is critical where the subject is empty (RFC 5280 section 4.2.1.6).
3. That URI is the SPIFFE ID of a workload, in canonical form.
4. Its trust domain may call, and has a bundle that is not empty.
5. The leaf is no CA, has a critical key usage with digitalSignature and without keyCertSign and cRLSign, and, where it
   has an extended key usage, both of TLS's.
6. It is valid at the time of the request: notBefore and notAfter are part of the validity period (RFC 5280 section
   4.1.2.5), the rest of the second after notAfter is not.
7. It leads to an authority of its own trust domain's bundle (:mod:`issuer.core.chain`).
8. It is not the issuer's own.

Not checked: revocation of single certificates, for which SPIFFE has short lifetimes instead; who holds the private key,
which TLS has proved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from issuer.core.caller import Caller
from issuer.core.chain import verify_chain
from issuer.core.errors import CallerNotVerified, Reason
from issuer.core.extensions import UNPARSABLE, extensions_of, not_understood, optional, uris_of
from issuer.core.spiffe_id import SpiffeId, TrustDomain

if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from datetime import datetime

    from cryptography.x509 import Certificate, Extensions

    from issuer.core.trust_bundles import TrustBundles

_SERIAL_NUMBERS = 1 << 159
"""Where positive INTEGERs of 20 bytes end; the first bit is the sign."""
_UNDERSTOOD = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    }
)
_BOTH_SIDES_OF_TLS = frozenset({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH})


def verify_svid(
    leaf: Certificate,
    intermediates: Sequence[Certificate],
    *,
    bundles: TrustBundles,
    allowed: Container[TrustDomain],
    now: datetime,
) -> Caller:
    """Verify what a caller presented; the steps are those of the module's docstring.

    Args:
        leaf: The certificate whose key TLS has proved.
        intermediates: The rest of what was presented, in any order.
        bundles: The authorities of each trust domain.
        allowed: The trust domains that may call.
        now: The time of the request, UTC.

    Raises:
        CallerNotVerified: With the reason of the first rule that is broken.
        TemporarilyUnavailable: IDENTITY_UNAVAILABLE, when the issuer has no identity of its own.
    """
    _check_serial_number(leaf)  # 1
    extensions = _understood(leaf)  # 1
    spiffe_id = SpiffeId.parse(_only_uri(leaf, extensions))  # 2, 3
    trust_domain = spiffe_id.trust_domain
    authorities = _authorities(trust_domain, bundles, allowed)  # 4
    _check_no_ca(extensions)  # 5
    _check_key_usage(extensions)  # 5
    _check_extended_key_usage(extensions)  # 5
    _check_validity(leaf, now)  # 6
    not_after = verify_chain(  # 7
        leaf, intermediates, trust_domain=trust_domain, authorities=authorities, bundles=bundles, now=now
    )
    if spiffe_id == bundles.own_id():  # 8
        raise CallerNotVerified(Reason.CALLER_IS_ISSUER, "the SVID is the issuer's own")
    return Caller(spiffe_id, leaf.fingerprint(SHA256()), leaf.serial_number, not_after)


def _check_serial_number(leaf: Certificate) -> None:
    if not 0 < leaf.serial_number < _SERIAL_NUMBERS:
        message = "the certificate's serial number is not positive, or longer than 20 bytes"
        raise CallerNotVerified(Reason.SVID_MALFORMED, message)


def _understood(leaf: Certificate) -> Extensions:
    extensions = extensions_of(leaf, "the certificate")
    if oid := not_understood(extensions, _UNDERSTOOD):
        message = f"the certificate has a critical extension that is not understood: {oid}"
        raise CallerNotVerified(Reason.SVID_MALFORMED, message)
    return extensions


def _only_uri(leaf: Certificate, extensions: Extensions) -> str:
    uris = uris_of(extensions)
    if not uris:
        raise CallerNotVerified(Reason.SVID_URI_SAN_MISSING, "the certificate has no URI SAN")
    if len(uris) > 1:
        raise CallerNotVerified(Reason.SVID_URI_SAN_MULTIPLE, "the certificate has more than one URI SAN")
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName)
    if not names.critical and _has_empty_subject(leaf):
        message = "the certificate has an empty subject, so its subjectAltName must be critical"
        raise CallerNotVerified(Reason.SVID_URI_SAN_NOT_CRITICAL, message)
    return uris[0]


def _has_empty_subject(leaf: Certificate) -> bool:
    try:
        return not list(leaf.subject)
    except UNPARSABLE as error:
        raise CallerNotVerified(Reason.SVID_MALFORMED, "the certificate's subject cannot be parsed") from error


def _authorities(
    trust_domain: TrustDomain, bundles: TrustBundles, allowed: Container[TrustDomain]
) -> tuple[Certificate, ...]:
    if trust_domain not in allowed:
        message = f"the issuer does not let the trust domain {trust_domain} call"
        raise CallerNotVerified(Reason.TRUST_DOMAIN_NOT_ALLOWED, message)
    authorities = bundles.authorities(trust_domain)
    if authorities is None:
        raise CallerNotVerified(Reason.TRUST_BUNDLE_MISSING, f"the issuer knows no bundle of {trust_domain}")
    if not authorities:
        raise CallerNotVerified(Reason.TRUST_BUNDLE_EMPTY, f"the bundle of {trust_domain} is empty")
    return authorities


def _check_no_ca(extensions: Extensions) -> None:
    constraints = optional(extensions, x509.BasicConstraints)
    if constraints is not None and constraints.value.ca:
        raise CallerNotVerified(Reason.SVID_IS_CA, "the certificate is one of a CA")


def _check_key_usage(extensions: Extensions) -> None:
    usage = optional(extensions, x509.KeyUsage)
    if usage is None:
        raise CallerNotVerified(Reason.SVID_KEY_USAGE_MISSING, "the certificate has no key usage")
    if not usage.critical:
        raise CallerNotVerified(Reason.SVID_KEY_USAGE_NOT_CRITICAL, "the certificate's key usage is not critical")
    if usage.value.key_cert_sign:
        raise CallerNotVerified(Reason.SVID_KEY_USAGE_CERT_SIGN, "the certificate may sign certificates")
    if usage.value.crl_sign:
        raise CallerNotVerified(Reason.SVID_KEY_USAGE_CRL_SIGN, "the certificate may sign revocation lists")
    if not usage.value.digital_signature:
        message = "the certificate's key usage lacks digitalSignature"
        raise CallerNotVerified(Reason.SVID_KEY_USAGE_NO_DIGITAL_SIGNATURE, message)


def _check_extended_key_usage(extensions: Extensions) -> None:
    purposes = optional(extensions, x509.ExtendedKeyUsage)
    if purposes is not None and not set(purposes.value) >= _BOTH_SIDES_OF_TLS:
        message = "the certificate's extended key usage lacks serverAuth or clientAuth"
        raise CallerNotVerified(Reason.SVID_EXTENDED_KEY_USAGE, message)


def _check_validity(leaf: Certificate, now: datetime) -> None:
    if now < leaf.not_valid_before_utc:
        raise CallerNotVerified(Reason.SVID_NOT_YET_VALID, "the certificate is not valid yet")
    if now > leaf.not_valid_after_utc:
        raise CallerNotVerified(Reason.SVID_EXPIRED, "the certificate has expired")
