"""One log line for each refusal. It never holds anything of a token that was not verified."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from agent_client.verification.errors import TokenRejected, VerificationUnavailable
from agent_client.verification.request_errors import MethodNotListed

if TYPE_CHECKING:
    from agent_client.verification.errors import VerificationError
    from agent_client.verification.verified_token import VerifiedToken

LOGGER = logging.getLogger("agent_client.verification")
MAX_FIELD = 256
"""Characters of what somebody else chose (path, peer, subject) in a line: a SPIFFE ID of the usual kind fits."""


def log_refusal(error: VerificationError, *, asked: str, peer: str, token: VerifiedToken | None = None) -> None:
    """Log why a request was not served.

    Args:
        error: Why.
        asked: What the request was for: method and path, or the RPC.
        peer: Who asked, by network address.
        token: The token, where it was verified; only then are its subject and identifier known.
    """
    level = logging.WARNING if isinstance(error, VerificationUnavailable | MethodNotListed) else logging.INFO
    if not LOGGER.isEnabledFor(level):
        return
    reason = error.reason if isinstance(error, TokenRejected) else type(error).__name__
    whose = "" if token is None else f" sub={_bounded(token.subject)} jti={_bounded(token.token_id)}"
    LOGGER.log(
        level,
        "refused %s from %s: %s, %s%s",
        _bounded(asked),
        _bounded(peer),
        reason,
        _bounded(error.message),
        whose,
    )


def _bounded(text: str) -> str:
    """Return the text in one line of printable ASCII, whatever it was."""
    cut = text if len(text) <= MAX_FIELD else text[:MAX_FIELD] + "..."
    return ascii(cut)[1:-1]
