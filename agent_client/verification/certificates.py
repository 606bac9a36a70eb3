"""The certificate that a caller presented, as DER, from the forms in which servers and proxies hand it on. Pure.

Nothing of it is verified here, nor even parsed: TLS did that. A token is bound to the SHA-256 of these bytes, so bytes
that are no certificate are one that no token is bound to. What cannot be read is no certificate.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from base64 import b64decode
from urllib.parse import unquote_to_bytes

MAX_PEM_CHARACTERS = 64 * 1024
"""An SVID takes 1 KiB; header lines longer than this no common server accepts."""

_PEM = re.compile(rb"\s*+-----BEGIN CERTIFICATE-----\s++([A-Za-z0-9+/=\s]++)-----END CERTIFICATE-----\s*+")
# Envoy's x-forwarded-client-cert: key=value pairs with ";" between, a value in quotes where it has one of ",;=".
_PAIR = re.compile(r'([A-Za-z]{1,16}+)=(?:"((?:[^"\\]|\\.)*+)"|([^",;=]*+))(;|\Z)')
_MAX_PAIRS = 64
"""By, Hash, Cert, Chain, Subject once each; URI and DNS as often as the certificate has them."""


def der_of_pem(pem: str | bytes) -> bytes | None:
    """Return the one certificate of a PEM text as DER; ``None`` when it is not exactly one."""
    try:
        text = pem.encode("ascii") if isinstance(pem, str) else pem
    except UnicodeEncodeError:
        return None
    block = _PEM.fullmatch(text) if len(text) <= MAX_PEM_CHARACTERS else None
    if block is None:
        return None
    try:
        return b64decode(b"".join(block[1].split()), validate=True) or None
    except binascii.Error:
        return None


def der_of_escaped_pem(escaped: str) -> bytes | None:
    """Return the certificate of a percent-encoded PEM text, nginx's ``$ssl_client_escaped_cert``, as DER."""
    return der_of_pem(unquote_to_bytes(escaped)) if len(escaped) <= MAX_PEM_CHARACTERS else None


def der_of_forwarded(value: str) -> bytes | None:
    """Return the certificate of Envoy's ``x-forwarded-client-cert`` as DER.

    It has to be one element with one ``Cert``. Of several, one for each proxy on the way, the first ones are what the
    caller of the last proxy liked to write. A ``Hash`` has to be that of the ``Cert``, and alone is not enough.
    """
    if len(value) > MAX_PEM_CHARACTERS:
        return None
    pairs = _pairs(value)
    certificates = [text for name, text in pairs if name == "cert"]
    if len(certificates) != 1:
        return None
    der = der_of_escaped_pem(certificates[0])
    hashes = {text.lower() for name, text in pairs if name == "hash"}
    agrees = der is not None and hashes <= {hashlib.sha256(der).hexdigest()}
    return der if agrees else None


def _pairs(value: str) -> list[tuple[str, str]]:
    """Return the pairs of one element; none when it is not one whole element."""
    pairs: list[tuple[str, str]] = []
    place = 0
    while len(pairs) < _MAX_PAIRS:
        pair = _PAIR.match(value, place)
        if pair is None:
            return []
        pairs.append((pair[1].lower(), pair[2] if pair[3] is None else pair[3]))
        if not pair[4]:
            return pairs
        place = pair.end()
    return []
