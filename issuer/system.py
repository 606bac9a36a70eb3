"""The system clock and the system's randomness, as the ports ``Clock`` and ``TokenIds``."""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime


class SystemClock:
    """The wall clock of this machine."""

    def now(self) -> datetime:
        """Return the current time in UTC."""
        return datetime.now(UTC)  # noqa: TID251 - this is the one place


class RandomIds:
    """Identifiers from the operating system's random source."""

    def token_id(self) -> str:
        """Return 128 random bits as base64url."""
        return secrets.token_urlsafe(16)

    def decision_id(self, now: datetime) -> str:
        """Return a UUIDv7 (RFC 9562 section 5.7): 48 bits of milliseconds, then 74 random bits."""
        milliseconds = int(now.timestamp() * 1000) & 0xFFFF_FFFF_FFFF
        value = bytearray(os.urandom(10))
        value[0] = 0x70 | value[0] & 0x0F  # the version, in place of 4 bits
        value[2] = 0x80 | value[2] & 0x3F  # the variant, in place of 2
        text = milliseconds.to_bytes(6).hex() + value.hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
