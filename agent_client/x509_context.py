"""What the Workload API answered, parsed: SVIDs with their keys, and the trust bundles."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from spiffe import TrustDomain, X509Bundle
from spiffe import X509Svid as ParsedSvid

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from cryptography.x509 import Certificate
    from spiffe._proto import workload_pb2

_logger = logging.getLogger("agent_client.workload_api")


@dataclass(frozen=True, slots=True)
class X509Svid:
    """An identity of this process.

    Attributes:
        spiffe_id: The URI SAN of the leaf, byte for byte.
        certificates: The leaf, then its intermediates.
        hint: What the registration entry says it is for; often empty.
    """

    spiffe_id: str
    certificates: tuple[Certificate, ...]
    hint: str
    _private_key_pem: bytes = field(repr=False)

    @property
    def trust_domain(self) -> str:
        """The trust domain's name, without scheme."""
        return self.spiffe_id.removeprefix("spiffe://").partition("/")[0]

    @property
    def not_after(self) -> datetime:
        """The last moment (UTC) at which every certificate of the chain is valid."""
        return min(certificate.not_valid_after_utc for certificate in self.certificates)

    def certificate_chain_pem(self) -> bytes:
        """Return the leaf and its intermediates as PEM."""
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in self.certificates)

    def private_key_pem(self) -> bytes:
        """Return the private key as PKCS #8 PEM. A secret: for TLS, in memory, and nothing else."""
        return self._private_key_pem


@dataclass(frozen=True, slots=True)
class X509Context:
    """One answer of the Workload API; everything in it belongs together.

    Attributes:
        svids: The identities, the default one first. Never empty in a context that a watcher gives.
        bundles: The authorities of each trust domain by name, own and federated. ``()`` means that nobody of it is to
            be trusted: the bundle was empty, or could not be read.
    """

    svids: tuple[X509Svid, ...]
    bundles: Mapping[str, tuple[Certificate, ...]]


def parse_answer(answer: workload_pb2.X509SVIDResponse) -> X509Context:
    """Parse an answer.

    What cannot be read is logged and costs only itself: an identity is left out, a bundle counts as empty.
    """
    svids: list[X509Svid] = []
    bundles = {_name(key): _bundle(_name(key), der) for key, der in answer.federated_bundles.items()}
    for raw in answer.svids:
        try:
            svid = _svid(raw)
        except Exception as error:  # noqa: BLE001 - DuplicateExtension, for one, is no ValueError
            _logger.error("an SVID of the Workload API cannot be used: %s: %s", raw.spiffe_id, error)
            continue
        svids.append(svid)
        bundles[svid.trust_domain] = _bundle(svid.trust_domain, raw.bundle)
    return X509Context(tuple(svids), MappingProxyType(bundles))


def _svid(raw: workload_pb2.X509SVID) -> X509Svid:
    # py-spiffe checks what X509-SVID section 5 says of leaf and intermediates, and that the key belongs to the leaf.
    parsed = ParsedSvid.parse_raw(raw.x509_svid, raw.x509_svid_key)
    names = parsed.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    # Not `parsed.spiffe_id`: py-spiffe writes it in lower case, and an identity is compared byte for byte.
    (spiffe_id,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    key = parsed.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return X509Svid(spiffe_id, tuple(parsed.cert_chain), raw.hint, key)


def _bundle(trust_domain: str, der: bytes) -> tuple[Certificate, ...]:
    if not der:
        return ()
    try:
        authorities = X509Bundle.parse_raw(TrustDomain(trust_domain), der).x509_authorities
    except Exception as error:  # noqa: BLE001 - as for SVIDs
        _logger.error("the bundle of %s cannot be read, so nobody of it is trusted: %s", trust_domain, error)
        return ()
    # py-spiffe gives a set; in a fixed order, equal bundles compare as equal.
    return tuple(sorted(authorities, key=lambda certificate: certificate.fingerprint(SHA256())))


def _name(trust_domain: str) -> str:
    """Return the name of a trust domain, which SPIRE writes as a SPIFFE ID."""
    return trust_domain.removeprefix("spiffe://")
