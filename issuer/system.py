"""The system clock and the system's randomness, as the ports ``Clock`` and ``TokenIds``."""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime

_74_BITS = (1 << 74) - 1


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
        random = int.from_bytes(os.urandom(10)) & _74_BITS
        value = (milliseconds << 80) | (0x7 << 76) | ((random >> 62) << 64) | (0b10 << 62) | (random & (1 << 62) - 1)
        text = f"{value:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
