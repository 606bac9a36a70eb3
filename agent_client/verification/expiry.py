"""How long what began with a token may go on: a stream must not outlive its token for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_client.clock import utc_now
from agent_client.verification.verifier import DEFAULT_LEEWAY

if TYPE_CHECKING:
    from agent_client.verification.verified_token import VerifiedToken

GRACE_SECONDS = DEFAULT_LEEWAY.total_seconds()
"""Clocks may differ here as they may when a token is verified. It is also the least that a stream gets whose token was
only just accepted."""


def seconds_until_end(token: VerifiedToken) -> float:
    """Return for how many seconds from now a stream that was begun with this token may go on."""
    return max(0.0, (token.expires_at - utc_now()).total_seconds()) + GRACE_SECONDS


class StreamExpired(Exception):
    """The token of a stream has expired. Nobody but the guard that raises it may see it."""
