"""Name constraints and webpki, which is what h2corn verifies with: how to do without them, and where that cannot be.

webpki knows no name constraints on URIs and directory names, and refuses every path that has one, kept to or not (fail
closed). A root's are its own to give up here: TLS only lets somebody knock, and the pipeline verifies the whole path,
with every name constraint and the real root, at each call. Those of an intermediate come with the caller's chain, which
nobody but its CA can change: such callers get no handshake.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from issuer.core.extensions import UNPARSABLE, optional

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_REFUSED = (x509.UniformResourceIdentifier, x509.DirectoryName)


def without_name_constraints(roots: bytes) -> bytes:
    """Return roots with the same names and keys, and none that has name constraints. Never one more or less.

    Of a root, webpki takes name, key and name constraints, and no signature. So one that has some is replaced by a
    certificate for its name and its key, which a key signs that nobody has. What cannot be read stays as it is.

    Args:
        roots: Certificates as PEM, perhaps none.
    """
    try:
        certificates = x509.load_pem_x509_certificates(roots)
    except ValueError:
        return roots
    return b"".join(_unconstrained(each).public_bytes(Encoding.PEM) for each in certificates)


def refused_authorities(chain: bytes) -> list[str]:
    """Return the names of those CAs of a chain, the leaf first, for whose name constraints webpki refuses every path.

    Args:
        chain: Certificates as PEM: an SVID of ours. Who shares its CAs is refused.
    """
    authorities = x509.load_pem_x509_certificates(chain)[1:]
    return [each.subject.rfc4514_string() for each in authorities if _is_refused(each)]


def shut_out(chain: bytes, verifier: str) -> str | None:
    """Return why callers get no handshake whose SVIDs come from where a chain of ours does; ``None`` where they do.

    Args:
        chain: As for :func:`refused_authorities`.
        verifier: What refuses them, for people.
    """
    if not (names := refused_authorities(chain)):
        return None
    which = " and ".join(f"'{name}'" for name in names)
    return f"{verifier} refuses every caller below {which}: it cannot read name constraints on URIs or directory names"


def _is_refused(authority: Certificate) -> bool:
    constraints = _name_constraints(authority)
    if constraints is None:
        return False
    names = (*(constraints.permitted_subtrees or ()), *(constraints.excluded_subtrees or ()))
    return any(isinstance(name, _REFUSED) for name in names)


def _name_constraints(certificate: Certificate) -> x509.NameConstraints | None:
    try:
        found = optional(certificate.extensions, x509.NameConstraints)
    except UNPARSABLE:
        return None
    return found.value if found else None


def _unconstrained(root: Certificate) -> Certificate:
    if _name_constraints(root) is None:
        return root
    try:
        replacement = (
            x509.CertificateBuilder()
            .subject_name(root.subject)
            .issuer_name(root.subject)
            .public_key(root.public_key())
            .serial_number(root.serial_number)
            .not_valid_before(root.not_valid_before_utc)
            .not_valid_after(root.not_valid_after_utc)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(_key_of_nobody(), SHA256())
        )
    except (*UNPARSABLE, UnsupportedAlgorithm):
        return root
    # The leaf's issuer is compared with it byte for byte.
    same_name = root.subject.public_bytes() in root.tbs_certificate_bytes
    return replacement if same_name else root


@cache
def _key_of_nobody() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())
