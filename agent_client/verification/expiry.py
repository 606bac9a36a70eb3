"""How long what began with a token may go on: a stream must not outlive its token for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_client.clock import utc_now

if TYPE_CHECKING:
    from agent_client.verification.verified_token import VerifiedToken

GRACE_SECONDS = 5.0
"""The default leeway of verifiers, so that clocks may differ here as they may there. It is also the least that a stream
gets whose token was only just accepted."""


def seconds_until_end(token: VerifiedToken) -> float:
    """Return for how many seconds from now a stream that was begun with this token may go on."""
    return max(0.0, (token.expires_at - utc_now()).total_seconds()) + GRACE_SECONDS
