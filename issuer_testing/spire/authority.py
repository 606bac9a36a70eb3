"""A certificate authority in miniature: X.509-SVIDs as SPIRE makes them, and every way of making them wrong.

The defaults are SPIRE 1.15's (EC P-256, critical key usage, both extended key usages, Subject ``C=US,O=SPIRE``), so a
certificate without further arguments is one that must be accepted. Each keyword of :meth:`Authority.issue` changes one
property, so an attack is the valid certificate less one rule::

    prod = Authority("prod.example")
    good = prod.issue("spiffe://prod.example/ns/payments/sa/settler")
    expired = prod.issue("spiffe://prod.example/a", not_after=utc_now() - timedelta(seconds=1))
    foreign = Authority("evil.example").issue("spiffe://prod.example/admin")   # the cross-domain attack
    two_ids = prod.issue("spiffe://prod.example/a", uris=["spiffe://prod.example/a", "spiffe://prod.example/b"])
    chained = prod.intermediate().issue("spiffe://prod.example/a")
    headless = chained.without_intermediates()
    from_leaf = prod.impersonated_by(good).issue("spiffe://prod.example/admin")  # an SVID used as a CA

Nothing is checked here: the module makes whatever it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

# SPIRE backdates by this much, so that hosts whose clocks differ a little accept a fresh SVID.
BACKDATE = timedelta(seconds=10)
DEFAULT_TTL = timedelta(hours=1)
CA_TTL = timedelta(hours=24)

SPIRE_SUBJECT = x509.Name(
    [x509.NameAttribute(NameOID.COUNTRY_NAME, "US"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "SPIRE")]
)
NO_SUBJECT = x509.Name([])
BOTH_USAGES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)  # noqa: TID251 - the testing tools' only look at the clock


def key_usage(*names: str) -> x509.KeyUsage:
    """Return a key usage with exactly the named bits, by their names in :class:`x509.KeyUsage`."""
    bits = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{bit: bit in names for bit in bits})


LEAF_KEY_USAGE = key_usage("digital_signature", "key_encipherment", "key_agreement")
CA_KEY_USAGE = key_usage("key_cert_sign", "crl_sign")
LEAF_CONSTRAINTS = x509.BasicConstraints(ca=False, path_length=None)
CA_CONSTRAINTS = x509.BasicConstraints(ca=True, path_length=None)


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a fresh P-256 key, the kind that SPIRE's ``ec-p256`` gives."""
    return ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True, slots=True)
class IssuedSvid:
    """An X.509-SVID with its private key: what the Workload API hands to a workload.

    Attributes:
        spiffe_id: The SPIFFE ID that was asked for; with faults, not necessarily what the leaf says.
        cert_chain: The leaf first, then its intermediates, without the root.
        key: The leaf's private key.
        hint: What the Workload API says this identity is for; not part of the certificate.
    """

    spiffe_id: str
    cert_chain: tuple[x509.Certificate, ...]
    key: CertificateIssuerPrivateKeyTypes = field(repr=False)
    hint: str = ""

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate of the workload itself."""
        return self.cert_chain[0]

    @property
    def intermediates(self) -> tuple[x509.Certificate, ...]:
        """The rest of the chain, without the root."""
        return self.cert_chain[1:]

    def chain_pem(self) -> bytes:
        """Return the chain as PEM, the leaf first."""
        return pem_bundle(self.cert_chain)

    def chain_der(self) -> bytes:
        """Return the chain as concatenated DER, the leaf first (the Workload API's form)."""
        return der_bundle(self.cert_chain)

    def key_pem(self) -> bytes:
        """Return the private key as unencrypted PKCS#8 PEM."""
        return self._key(serialization.Encoding.PEM)

    def key_der(self) -> bytes:
        """Return the private key as unencrypted PKCS#8 DER (the Workload API's form)."""
        return self._key(serialization.Encoding.DER)

    def without_intermediates(self) -> IssuedSvid:
        """Return the same SVID with the leaf alone in its chain."""
        return replace(self, cert_chain=self.cert_chain[:1])

    def _key(self, encoding: serialization.Encoding) -> bytes:
        return self.key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


class Authority:
    """One CA of a trust domain: a self-signed root, or an intermediate below one.

    Attributes:
        trust_domain: The name without scheme, for example ``prod.example``.
        certificate: The CA's own certificate.
        root: The self-signed certificate at the top: what belongs in the bundle.
        chain: What an SVID of this authority sends after its leaf: ``()`` for a root, which is never sent.
    """

    def __init__(
        self,
        trust_domain: str,
        *,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        uri: str | None = None,
        name_constraints: x509.NameConstraints | None = None,
        constraints: x509.BasicConstraints = CA_CONSTRAINTS,
    ) -> None:
        """Make a new self-signed root.

        Args:
            trust_domain: The name without scheme.
            not_before: Default: now, less ten seconds.
            not_after: Default: a day from now.
            uri: The URI SAN; default ``spiffe://<trust_domain>``, as SPIRE does; ``""`` for none.
            name_constraints: An additional, critical name constraints extension.
            constraints: The basic constraints; give ``path_length`` here.
        """
        now = utc_now()
        self.trust_domain = trust_domain
        self._key: CertificateIssuerPrivateKeyTypes = new_key()
        subject = _ca_subject("SPIFFE")
        builder = _certificate(subject, subject, self._key, (not_before or now - BACKDATE, not_after or now + CA_TTL))
        builder = _with_ca_extensions(builder, _ca_uri(trust_domain, uri), constraints, name_constraints)
        self.certificate = _sign(builder, self._key, self._key)
        self.root = self.certificate
        self.chain: tuple[x509.Certificate, ...] = ()

    def intermediate(
        self,
        *,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        uri: str | None = None,
        name_constraints: x509.NameConstraints | None = None,
        constraints: x509.BasicConstraints = CA_CONSTRAINTS,
        usage: x509.KeyUsage = CA_KEY_USAGE,
    ) -> Authority:
        """Return a new CA, signed by this one; the arguments are those of the constructor."""
        now = utc_now()
        key = new_key()
        times = (not_before or now - BACKDATE, not_after or now + CA_TTL)
        builder = _certificate(_ca_subject("SPIRE"), self.certificate.subject, key, times)
        builder = _with_ca_extensions(builder, _ca_uri(self.trust_domain, uri), constraints, name_constraints, usage)
        certificate = _sign(builder, key, self._key, self.certificate)
        return self._below(certificate, key, (certificate, *self.chain))

    def impersonated_by(self, svid: IssuedSvid) -> Authority:
        """Return an authority that signs with a leaf's key: an SVID holder who plays CA. Must never be accepted."""
        return self._below(svid.leaf, svid.key, svid.cert_chain)

    def issue(
        self,
        spiffe_id: str,
        *,
        ttl: timedelta = DEFAULT_TTL,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        dns_names: Iterable[str] = (),
        uris: Sequence[str] | None = None,
        subject: x509.Name | None = None,
        san_critical: bool | None = None,
        constraints: x509.BasicConstraints | None = LEAF_CONSTRAINTS,
        usage: x509.KeyUsage | None = LEAF_KEY_USAGE,
        usage_critical: bool = True,
        extended_usage: Sequence[x509.ObjectIdentifier] | None = BOTH_USAGES,
        key: CertificateIssuerPrivateKeyTypes | None = None,
    ) -> IssuedSvid:
        """Return a new SVID, signed by this authority. Without faults it is valid now.

        Args:
            spiffe_id: The URI SAN, as it is: not parsed, not checked.
            ttl: The lifetime from now, unless ``not_after`` is given.
            not_before: Default: now less ten seconds, or an hour before a ``not_after`` in the past.
            not_after: The last moment of validity, to the second.
            dns_names: DNS SANs; the first one is also the common name, as SPIRE does.
            uris: The URI SANs instead of ``spiffe_id``; ``()`` for none.
            subject: Default ``C=US,O=SPIRE``; :data:`NO_SUBJECT` for an empty one.
            san_critical: Default: critical exactly where the Subject is empty (RFC 5280 section 4.2.1.6).
            constraints: The basic constraints; ``None`` leaves the extension out.
            usage: The key usage, see :func:`key_usage`; ``None`` leaves the extension out.
            usage_critical: Whether the key usage is critical.
            extended_usage: The extended key usages; ``None`` leaves the extension out.
            key: The leaf's private key; default a new P-256 key.
        """
        names = list(dns_names)
        subject = _leaf_subject(names) if subject is None else subject
        key = key or new_key()
        builder = _certificate(subject, self.certificate.subject, key, _leaf_times(ttl, not_before, not_after))
        san_names = _general_names([spiffe_id] if uris is None else uris, names)
        if san_names:
            critical = not list(subject) if san_critical is None else san_critical
            builder = builder.add_extension(x509.SubjectAlternativeName(san_names), critical=critical)
        if constraints is not None:
            builder = builder.add_extension(constraints, critical=True)
        if usage is not None:
            builder = builder.add_extension(usage, critical=usage_critical)
        if extended_usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage(extended_usage), critical=False)
        leaf = _sign(builder, key, self._key, self.certificate)
        return IssuedSvid(spiffe_id=spiffe_id, cert_chain=(leaf, *self.chain), key=key)

    def _below(
        self,
        certificate: x509.Certificate,
        key: CertificateIssuerPrivateKeyTypes,
        chain: tuple[x509.Certificate, ...],
    ) -> Authority:
        child = Authority.__new__(Authority)
        child.trust_domain, child.root = self.trust_domain, self.root
        child.certificate, child.chain = certificate, chain
        child._key = key  # noqa: SLF001 - another instance of this very class
        return child


def der_bundle(certificates: Iterable[x509.Certificate]) -> bytes:
    """Return the certificates as concatenated DER."""
    return b"".join(certificate.public_bytes(serialization.Encoding.DER) for certificate in certificates)


def pem_bundle(certificates: Iterable[x509.Certificate]) -> bytes:
    """Return the certificates as concatenated PEM."""
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)


def _leaf_times(ttl: timedelta, not_before: datetime | None, not_after: datetime | None) -> tuple[datetime, datetime]:
    now = utc_now()
    end = not_after or (not_before or now) + ttl
    start = now - BACKDATE
    return not_before or (start if start < end else end - timedelta(hours=1)), end


def _leaf_subject(dns_names: Sequence[str]) -> x509.Name:
    # A common name holds 64 characters at most (RFC 5280 appendix A.1, ub-common-name); the SAN is what counts.
    common_name = [x509.NameAttribute(NameOID.COMMON_NAME, name) for name in dns_names[:1] if len(name) <= 64]  # noqa: PLR2004
    return x509.Name([*SPIRE_SUBJECT, *common_name])


def _general_names(uris: Iterable[str], dns_names: Iterable[str]) -> list[x509.GeneralName]:
    return [*map(x509.UniformResourceIdentifier, uris), *map(x509.DNSName, dns_names)]


def _ca_subject(organization: str) -> x509.Name:
    """Return a Subject that no other CA has: two roots of one domain must not be taken for each other."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, str(x509.random_serial_number())),
        ]
    )


def _ca_uri(trust_domain: str, uri: str | None) -> str:
    return f"spiffe://{trust_domain}" if uri is None else uri


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: CertificateIssuerPrivateKeyTypes, times: tuple[datetime, datetime]
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(times[0])
        .not_valid_after(times[1])
    )


def _with_ca_extensions(
    builder: x509.CertificateBuilder,
    uri: str,
    constraints: x509.BasicConstraints,
    name_constraints: x509.NameConstraints | None,
    usage: x509.KeyUsage = CA_KEY_USAGE,
) -> x509.CertificateBuilder:
    builder = builder.add_extension(constraints, critical=True).add_extension(usage, critical=True)
    if uri:
        san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        builder = builder.add_extension(san, critical=False)
    if name_constraints is not None:
        builder = builder.add_extension(name_constraints, critical=True)
    return builder


def _sign(
    builder: x509.CertificateBuilder,
    key: CertificateIssuerPrivateKeyTypes,
    signer: CertificateIssuerPrivateKeyTypes,
    issuer: x509.Certificate | None = None,
) -> x509.Certificate:
    issuer_key = issuer.public_key() if issuer else signer.public_key()
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key)  # type: ignore[arg-type]
    return builder.add_extension(authority, critical=False).sign(signer, hashes.SHA256())
