"""What a verified X.509-SVID proves about the caller, and nothing more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from issuer.core.spiffe_id import SpiffeId


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller whose SVID was verified by :func:`issuer.core.svid.verify_svid`.

    Only that function and tests construct it: holding a ``Caller`` is the proof that verification took place.

    Attributes:
        spiffe_id: The canonical SPIFFE ID of the leaf's only URI SAN.
        certificate_sha256: SHA-256 over the leaf's DER (RFC 8705 section 3.1, before base64url), 32 bytes.
        serial_number: The leaf's serial number.
        not_after: The last moment (UTC) at which the leaf and every certificate of its chain are valid.
    """

    spiffe_id: SpiffeId
    certificate_sha256: bytes
    serial_number: int
    not_after: datetime
