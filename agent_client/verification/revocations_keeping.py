"""What both streams of revocations do alike: what they are told, what they say of it, and when they begin again."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from agent_client.clock import elapsed, utc_now
from agent_client.errors import ClientClosed, ClientForked, IssuerRequestError
from agent_client.failover import is_of_address
from agent_client.following import Replaced
from agent_client.retry import growing_pause
from agent_client.verification.revocations_set import TooManyRevoked
from agent_client.verification.revocations_state import RevocationState

if TYPE_CHECKING:
    from collections.abc import Collection

    from agent_client.verification.revocations_news import Position, RevocationNews
    from agent_client.verification.verified_token import VerifiedToken

DEFAULT_MAX_SILENCE = timedelta(seconds=30)
"""The issuer says every two seconds that it knows all. A restarted one is heard within seconds."""
SHORTEST_MAX_SILENCE = timedelta(seconds=5)
LONGEST_MAX_SILENCE = timedelta(hours=1)
DEFAULT_MAX_KEPT: Final = 1_000_000
"""Revoked tokens that have not expired: about 170 MB, and for the moment in which all is told anew, twice that."""
_LONGEST_QUIET: Final = 15.0
_SHORTEST_QUIET: Final = 4.0
"""Seconds without a message until a stream is given up and begun elsewhere: the issuer speaks every two seconds, but
may look tokens up for ten."""
_PAUSE_AFTER_REFUSAL: Final = 5.0
"""Seconds, when the issuer does not let this server follow, or more is revoked than may be kept."""
_logger = logging.getLogger("agent_client.verification")


class RevocationKeeper:
    """What is known of revocations, and the log about it.

    Args:
        max_silence: How long nothing may be heard of the issuer until it is no longer taken for known what is revoked.
        unknown_allowed: Scopes that are good enough then: a token all of whose scopes are among them is taken.
        max_kept: How many revoked tokens are kept at most.

    Raises:
        ValueError: An argument is out of its bounds.
    """

    def __init__(self, max_silence: timedelta, unknown_allowed: Collection[str], max_kept: int) -> None:
        if not SHORTEST_MAX_SILENCE <= max_silence <= LONGEST_MAX_SILENCE:
            raise ValueError("max_silence is between 5 seconds and an hour")
        if isinstance(unknown_allowed, str):
            raise TypeError("unknown_allowed are several names: write a list, not one string")
        if max_kept < 1:
            raise ValueError("max_kept is a positive number")
        seconds = max_silence.total_seconds()
        self._state = RevocationState(seconds, unknown_allowed, max_kept)
        self.quiet = max(min(_LONGEST_QUIET, seconds / 2), _SHORTEST_QUIET)
        self._failures = 0
        self._fault: Exception | None = None
        self._was_current = False

    @property
    def is_current(self) -> bool:
        """Whether all that is revoked is known."""
        return self._state.is_current(elapsed())

    @property
    def kept(self) -> int:
        """How many revoked tokens, and kinds of token, are kept."""
        return self._state.kept

    @property
    def position(self) -> Position | None:
        """Where the next stream is to go on."""
        return self._state.position

    def refuse_revoked(self, token: VerifiedToken, key_id: str) -> None:
        """Return if a token may be taken, as :mod:`agent_client.verification.revocations_state` says.

        Raises:
            TokenRejected: REVOKED.
            RevocationsUnavailable: It is not known, and has to be.
        """
        self._state.refuse_revoked(token, key_id, elapsed())

    def take(self, news: RevocationNews) -> None:
        """Take in a message of the stream.

        Raises:
            TooManyRevoked: There is no room for it.
            BeginAnew: The stream leaves something out.
        """
        if self._state.take(news, elapsed(), utc_now().timestamp()):
            self._failures = 0
            self._note(None)
            self.look()

    def pause_after(self, error: Exception | None) -> float:
        """Take in how a stream ended; return the seconds until the next."""
        # Without an error, the issuer ended it: the audiences that it covers are others now.
        if error is None or isinstance(error, Replaced):
            return growing_pause(0)
        self._note(error)
        self._failures += 1
        lasts = self._failures > 1 and _lasts(error)
        return _PAUSE_AFTER_REFUSAL if lasts else growing_pause(self._failures - 1)

    def look(self) -> None:
        """Log whether all that is revoked is known, when that has changed."""
        current = self.is_current
        if current and not self._was_current:
            _logger.info("it is known which tokens are revoked: %d kept", self.kept)
        elif self._was_current and not current:
            _logger.warning("it is not known any more which tokens are revoked: %s", self._fault or "silence")
        self._was_current = current

    def _note(self, fault: Exception | None) -> None:
        """Log what changed, once: the texts of one kind of error differ from try to try."""
        if fault is not None and type(fault) is not type(self._fault):
            _logger.warning("revocations cannot be followed: %s", fault)
        elif fault is None and self._fault is not None:
            _logger.info("revocations are followed again")
        self._fault = fault


def _lasts(error: Exception) -> bool:
    """Return whether the next stream will most likely end like this."""
    if isinstance(error, IssuerRequestError):
        return not is_of_address(error)
    return isinstance(error, TooManyRevoked | ClientClosed | ClientForked)
