"""HTTPS certificates for a listener on this machine, and a look at what it presents."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path

BEGIN = datetime(2025, 1, 1, tzinfo=UTC)


def write_certificate(
    folder: Path, *, password: bytes | None = None, dns_names: tuple[str, ...] = ()
) -> tuple[Path, Path]:
    """Write ``tls.crt`` and ``tls.key`` for 127.0.0.1, self-signed and new every time; return both paths."""
    key = generate_private_key(SECP256R1())
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1")), *map(x509.DNSName, dns_names)])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(BEGIN)
        .not_valid_after(BEGIN + timedelta(days=3650))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    encryption: KeySerializationEncryption = BestAvailableEncryption(password) if password else NoEncryption()
    paths = folder / "tls.crt", folder / "tls.key"
    paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return paths


def trusting(certificate: Path) -> ssl.SSLContext:
    """Return a client context that trusts exactly this certificate."""
    return ssl.create_default_context(cafile=certificate)


def presented(port: int, *, server_name: str | None = None) -> bytes:
    """Return the certificate, DER, that a listener on this machine presents in a new handshake."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=server_name) as connection,
    ):
        certificate = connection.getpeercert(binary_form=True)
    assert certificate
    return certificate


def der(certificate: Path) -> bytes:
    """Return the DER of a PEM file."""
    return ssl.PEM_cert_to_DER_cert(certificate.read_text())
