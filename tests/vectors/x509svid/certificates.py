"""Certificates that come out the same each time: keys, serial numbers and signatures follow from names."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from vectors.x509svid import der

from issuer_testing.spire.authority import BOTH_USAGES, CA_KEY_USAGE, LEAF_KEY_USAGE, SPIRE_SUBJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

SINCE, UNTIL = datetime(2025, 1, 1, tzinfo=UTC), datetime(2125, 1, 1, tzinfo=UTC)
RSA_KEYS = Path(__file__).with_name("rsa_keys")
# DER of the AlgorithmIdentifiers ecdsa-with-SHA1 (RFC 3279 section 2.2.3) and md5WithRSAEncryption (section 2.2.1).
ECDSA_WITH_SHA1 = bytes.fromhex("300906072a8648ce3d0401")
MD5_WITH_RSA = bytes.fromhex("300d06092a864886f70d0101040500")
# id-RSASSA-PSS without the parameters that RFC 4055 section 3.1 demands of a signature.
PSS_WITHOUT_PARAMETERS = bytes.fromhex("300b06092a864886f70d01010a")
# The AlgorithmIdentifier 1.3.6.1.4.1.99999.3, which is nobody's.
UNKNOWN_ALGORITHM = bytes.fromhex("300b06092b06010401868d1f03")
_MD5_DIGEST_INFO = bytes.fromhex("3020300c06082a864886f70d020505000410")


def ec_key(name: str, curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    """Return the key of this name; by default on P-256."""
    return ec.derive_private_key(_number(f"key of {name}", 216), curve or ec.SECP256R1())


def ed25519_key(name: str) -> ed25519.Ed25519PrivateKey:
    """Return the key of this name."""
    return ed25519.Ed25519PrivateKey.from_private_bytes(_number(f"key of {name}", 248).to_bytes(32, "big"))


def rsa_key(name: str, bits: int) -> rsa.RSAPrivateKey:
    """Return the key of this name from its file. RSA keys cannot follow from a name, so a new one is kept."""
    file = RSA_KEYS / f"{name}_{bits}.pem"
    if not file.exists():
        RSA_KEYS.mkdir(exist_ok=True)
        file.write_bytes(key_pem(rsa.generate_private_key(65537, bits)))
    key = serialization.load_pem_private_key(file.read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


def key_pem(key: Key) -> bytes:
    """Return a test key as PKCS #8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _number(text: str, bits: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big") >> (256 - bits)


@dataclass(frozen=True)
class Issued:
    """A certificate and its key. ``der`` is what counts: some do not parse."""

    name: str
    subject: x509.Name
    der: bytes
    key: Key = field(repr=False)

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate, parsed."""
        return x509.load_der_x509_certificate(self.der)


@dataclass(frozen=True)
class Profile:
    """What a certificate says. ``None`` leaves an extension out."""

    subject: x509.Name
    names: Sequence[x509.GeneralName]
    constraints: x509.BasicConstraints | None
    usage: x509.KeyUsage | None
    purposes: Sequence[x509.ObjectIdentifier] | None = None
    names_critical: bool | None = None
    constraints_critical: bool = True
    usage_critical: bool = True
    valid: tuple[datetime, datetime] = (SINCE, UNTIL)
    extra: Sequence[tuple[x509.ExtensionType, bool]] = ()
    key_identifiers: bool = True
    broken: Callable[[bytes], bytes] | None = None
    algorithm: bytes | None = None
    digest: hashes.HashAlgorithm = field(default_factory=hashes.SHA256)

    def extensions(self) -> list[tuple[x509.ExtensionType, bool]]:
        """Return the extensions with whether each is critical."""
        listed: list[tuple[x509.ExtensionType, bool]] = []
        if self.names:
            critical = not list(self.subject) if self.names_critical is None else self.names_critical
            listed.append((x509.SubjectAlternativeName(self.names), critical))
        if self.constraints is not None:
            listed.append((self.constraints, self.constraints_critical))
        if self.usage is not None:
            listed.append((self.usage, self.usage_critical))
        if self.purposes is not None:
            listed.append((x509.ExtendedKeyUsage(self.purposes), False))
        return [*listed, *self.extra]


def authority(name: str, trust_domain: str, signer: Issued | None = None, **changes: Any) -> Issued:
    """Return a CA as SPIRE makes one, self-signed where no signer is given; ``changes`` are fields of Profile."""
    key = changes.pop("key", None) or ec_key(name)
    profile: dict[str, Any] = {
        "subject": x509.Name([*SPIRE_SUBJECT, x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]),
        "names": [x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")],
        "constraints": x509.BasicConstraints(ca=True, path_length=None),
        "usage": CA_KEY_USAGE,
    }
    return _issue(name, Profile(**{**profile, **changes}), key, signer)


def leaf(name: str, spiffe_id: str, signer: Issued | None, **changes: Any) -> Issued:
    """Return an SVID as SPIRE makes one; ``changes`` are fields of Profile, and ``key``."""
    key = changes.pop("key", None) or ec_key(name)
    profile: dict[str, Any] = {
        "subject": SPIRE_SUBJECT,
        "names": [x509.UniformResourceIdentifier(spiffe_id)],
        "constraints": x509.BasicConstraints(ca=False, path_length=None),
        "usage": LEAF_KEY_USAGE,
        "purposes": BOTH_USAGES,
    }
    return _issue(name, Profile(**{**profile, **changes}), key, signer)


def _issue(name: str, profile: Profile, key: Key, signer: Issued | None) -> Issued:
    signing_key = signer.key if signer else key
    certificate = _sign(_builder(name, profile, key, signer), signing_key, profile.digest)
    encoded = certificate.public_bytes(serialization.Encoding.DER)
    if profile.broken or profile.algorithm:
        encoded = _broken(encoded, profile, signing_key)
    return Issued(name, profile.subject, encoded, key)


def _builder(name: str, profile: Profile, key: Key, signer: Issued | None) -> x509.CertificateBuilder:
    builder = (
        x509.CertificateBuilder()
        .subject_name(profile.subject)
        .issuer_name(signer.subject if signer else profile.subject)
        .public_key(key.public_key())
        .serial_number(_number(f"serial number of {name}", 120))
        .not_valid_before(profile.valid[0])
        .not_valid_after(profile.valid[1])
    )
    for extension, critical in profile.extensions():
        builder = builder.add_extension(extension, critical=critical)
    if profile.key_identifiers:
        own, above = key.public_key(), (signer.key if signer else key).public_key()
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(own), critical=False)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(above), critical=False)
    return builder


def _sign(builder: x509.CertificateBuilder, key: Key, digest: hashes.HashAlgorithm) -> x509.Certificate:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return builder.sign(key, digest, ecdsa_deterministic=True)  # type: ignore[arg-type]
    return builder.sign(key, digest if isinstance(key, rsa.RSAPrivateKey) else None)  # type: ignore[arg-type]


def _broken(encoded: bytes, profile: Profile, key: Key) -> bytes:
    """Change the signed part as the profile says, and sign it again."""
    tbs, algorithm, _ = der.children(encoded)
    if profile.algorithm:
        algorithm = profile.algorithm
        tbs = der.with_child(tbs, 2, algorithm)
    if profile.broken:
        tbs = profile.broken(tbs)
    return der.signed(tbs, algorithm, _raw_signature(tbs, algorithm, key))


def _raw_signature(tbs: bytes, algorithm: bytes, key: Key) -> bytes:
    if algorithm == MD5_WITH_RSA and isinstance(key, rsa.RSAPrivateKey):
        return _md5_signature(tbs, key)
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(tbs, padding.PKCS1v15(), hashes.SHA256())
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    digest = hashes.SHA1() if algorithm == ECDSA_WITH_SHA1 else hashes.SHA256()  # noqa: S303 - the fault of the case
    return key.sign(tbs, ec.ECDSA(digest, deterministic_signing=True))


def _md5_signature(tbs: bytes, key: rsa.RSAPrivateKey) -> bytes:
    """Sign by hand (RFC 8017 section 8.2.1), since no library signs with MD5 any more."""
    size = key.key_size // 8
    info = _MD5_DIGEST_INFO + hashlib.md5(tbs, usedforsecurity=False).digest()
    padded = b"\x00\x01" + b"\xff" * (size - len(info) - 3) + b"\x00" + info
    numbers = key.private_numbers()
    return pow(int.from_bytes(padded, "big"), numbers.d, numbers.public_numbers.n).to_bytes(size, "big")
