"""Reading a certificate's extensions: what cannot be parsed is refused, and what is critical must be understood."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from cryptography import x509

from issuer.core.errors import CallerNotVerified, Reason

if TYPE_CHECKING:
    from collections.abc import Container

    from cryptography.x509 import Certificate, Extension, Extensions

Kind = TypeVar("Kind", bound=x509.ExtensionType)

UNPARSABLE = (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, x509.InvalidVersion)
"""What `cryptography` raises where it cannot make sense of a certificate or a part of it."""


def extensions_of(certificate: Certificate, whose: str) -> Extensions:
    """Return the extensions of a certificate.

    Args:
        certificate: Any certificate.
        whose: What to call it in the message, for example ``the certificate``.

    Raises:
        CallerNotVerified: SVID_MALFORMED, when they cannot be parsed or one stands there twice.
    """
    try:
        return certificate.extensions
    except UNPARSABLE as error:
        raise CallerNotVerified(Reason.SVID_MALFORMED, f"the extensions of {whose} cannot be parsed") from error


def optional(extensions: Extensions, kind: type[Kind]) -> Extension[Kind] | None:
    """Return the extension of this kind, or ``None``."""
    try:
        return extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


def not_understood(extensions: Extensions, understood: Container[x509.ObjectIdentifier]) -> str | None:
    """Return the OID of a critical extension that is not ``understood``, or ``None`` (RFC 5280 section 4.2)."""
    unknown = (each.oid for each in extensions if each.critical and each.oid not in understood)
    return next((oid.dotted_string for oid in unknown), None)


def uris_of(extensions: Extensions) -> list[str]:
    """Return the URI SANs, in their order."""
    names = optional(extensions, x509.SubjectAlternativeName)
    return names.value.get_values_for_type(x509.UniformResourceIdentifier) if names else []
