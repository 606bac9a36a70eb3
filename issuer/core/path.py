"""Certification paths (RFC 5280 section 6): signatures, validity, path lengths, name constraints.

Two engines, since neither does it all well. `cryptography` is the faster one and builds paths within a budget, but it
knows no name constraints on URIs and refuses even a path that keeps to them. OpenSSL knows them. A caller chooses: one
presented certificate with name constraints, part of the path or not, makes it OpenSSL. So whatever only one of the two
checks is checked before, by who calls this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError
from OpenSSL import crypto

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from cryptography.x509 import Certificate

# X509_V_ERR_PERMITTED_VIOLATION, EXCLUDED_VIOLATION, SUBTREE_MINMAX, UNSUPPORTED_CONSTRAINT_TYPE,
# UNSUPPORTED_CONSTRAINT_SYNTAX and UNSUPPORTED_NAME_SYNTAX of openssl/x509_vfy.h.
_NAME_CONSTRAINT_FAULTS = frozenset({47, 48, 49, 51, 52, 53})

# The caller's own extensions, and what a signing certificate may be, are SPIFFE's rules, which the callers of this
# module check; the Web PKI's, which are the default, would get in their way.
_ANY_LEAF = ExtensionPolicy.permit_all()
_ANY_CA = ExtensionPolicy.permit_all().require_present(x509.BasicConstraints, Criticality.CRITICAL, None)


class PathNotFound(Exception):
    """No valid path leads from the leaf to one of the authorities."""


class NameConstraintsViolated(Exception):
    """The path leads to an authority, but past a name constraint."""


def find_path(
    leaf: Certificate,
    intermediates: Sequence[Certificate],
    authorities: Sequence[Certificate],
    *,
    now: datetime,
    max_intermediates: int,
) -> Sequence[Certificate]:
    """Return a valid path, from the leaf to one of ``authorities``, both included.

    An authority need not be self-signed: being in the bundle is what makes it one (X509-SVID section 5).

    Args:
        leaf: Whose own extensions are not checked here.
        intermediates: What may lie between, in any order. Each must be a CA whose critical extensions were checked.
        authorities: Where the path may end. The same: a leaf in this list would be a path of its own.
        now: The time, UTC; the engines look at whole seconds of it.
        max_intermediates: How many may lie between.

    Raises:
        PathNotFound: There is none.
        NameConstraintsViolated: There is one, if it were not for its name constraints.
    """
    if not authorities:
        raise PathNotFound("no authority")
    if any(map(_has_name_constraints, (*intermediates, *authorities))):
        return _openssl_path(leaf, intermediates, authorities, now)
    verifier = (
        PolicyBuilder()
        .store(Store(list(authorities)))
        .time(now)
        .max_chain_depth(max_intermediates)
        .extension_policies(ca_policy=_ANY_CA, ee_policy=_ANY_LEAF)
        .build_client_verifier()
    )
    try:
        return verifier.verify(leaf, list(intermediates)).chain
    except VerificationError as error:
        raise PathNotFound(str(error)) from error


def _has_name_constraints(certificate: Certificate) -> bool:
    return any(extension.oid == x509.OID_NAME_CONSTRAINTS for extension in certificate.extensions)


def _openssl_path(
    leaf: Certificate, intermediates: Iterable[Certificate], authorities: Iterable[Certificate], now: datetime
) -> Sequence[Certificate]:
    try:
        chain = _openssl_context(leaf, intermediates, authorities, now).get_verified_chain()
        return [certificate.to_cryptography() for certificate in chain]
    except crypto.X509StoreContextError as error:
        if error.errors[0] in _NAME_CONSTRAINT_FAULTS:
            raise NameConstraintsViolated(str(error)) from error
        raise PathNotFound(str(error)) from error
    except crypto.Error as error:
        raise PathNotFound(f"OpenSSL cannot parse a certificate: {error}") from error


def _openssl_context(
    leaf: Certificate, intermediates: Iterable[Certificate], authorities: Iterable[Certificate], now: datetime
) -> crypto.X509StoreContext:
    store = crypto.X509Store()
    for authority in authorities:
        store.add_cert(crypto.X509.from_cryptography(authority))
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    store.set_time(now.replace(tzinfo=None))
    presented = [crypto.X509.from_cryptography(intermediate) for intermediate in intermediates]
    return crypto.X509StoreContext(store, crypto.X509.from_cryptography(leaf), presented)
