"""When a client should ask for the next token."""

from __future__ import annotations

LONG_LIVED_SECONDS = 300
"""Tokens from this lifetime on are renewed early, so that an outage of the issuer is survived for most of it."""


def renew_at(issued_at: int, expires_at: int) -> int:
    """Return the Unix second at which to renew a token.

    A token of five minutes or more is renewed after a fifth of its life, so it outlives an outage of the issuer for the
    other four; a shorter one after half of it, since renewing it earlier would multiply the load for little gain.
    """
    lifetime = expires_at - issued_at
    return issued_at + (lifetime // 5 if lifetime >= LONG_LIVED_SECONDS else lifetime // 2)
