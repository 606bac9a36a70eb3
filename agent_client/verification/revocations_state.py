"""What a verifier knows of revocations, how far it may rely on that, and what it does when it may not. Pure.

1. A token that is known to be dead is refused, however old that knowledge is.
2. Any other is taken while the stream is *current*: it covers the token's issuer and audience, everything up to a
   position was told, and the issuer said within ``max_silence`` that it knows of nothing more.
3. While it is not, a token is taken only if each of its scopes is one that is *open*. Tokens carry no risk tier; their
   scopes say what they can do, and the whole of it counts, for the verifier does not see what a handler asks of a token
   later. A token without scopes is not taken.

At the start nothing was told, so rule 3 holds.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, Protocol

from agent_client.verification.errors import RejectionReason, RevocationsUnavailable, TokenRejected
from agent_client.verification.revocations_news import Position
from agent_client.verification.revocations_set import RevokedTokens

if TYPE_CHECKING:
    from collections.abc import Collection

    from agent_client.verification.revocations_news import RevocationNews, WatchBeginning
    from agent_client.verification.verified_token import VerifiedToken

_LONG_AGO = float("-inf")
_SOON = timedelta(seconds=1)


class BeginAnew(Exception):
    """The stream cannot be gone on with: the next one has to begin from nothing."""


class _Known(NamedTuple):
    """What is in force. It is replaced whole, so that whoever looks sees one state."""

    issuer: str
    audiences: frozenset[str]
    revoked: RevokedTokens
    current_until: float


class RevocationState:
    """For one thread that takes in news, and any number that look. Times are monotonic seconds, but where it is said.

    Args:
        max_silence: Seconds without word of the issuer after which the stream is not current.
        unknown_allowed: What may be used all the same.
        most: How many revoked tokens are kept at most. While all is told anew, twice as many.
    """

    def __init__(self, max_silence: float, unknown_allowed: Collection[str], most: int) -> None:
        self._max_silence = max_silence
        self._unknown_allowed = frozenset(unknown_allowed)
        self._most = most
        self._known = _Known("", frozenset(), RevokedTokens(most), _LONG_AGO)
        self._about: WatchBeginning | None = None  # what the present stream is about
        self._arriving = self._known.revoked  # what it adds to: another set while all is told anew
        self._position: Position | None = None

    @property
    def position(self) -> Position | None:
        """Where the next stream is to go on; ``None`` for the beginning."""
        return self._position

    @property
    def kept(self) -> int:
        """How many revoked tokens, and kinds of token, are kept."""
        return len(self._known.revoked)

    def is_current(self, now: float) -> bool:
        """Return whether all that is revoked is known."""
        return now < self._known.current_until

    def refuse_revoked(self, token: VerifiedToken, key_id: str, now: float) -> None:
        """Return if a token may be taken, by the rules above. Safe in any thread.

        Args:
            token: What a verified token says.
            key_id: The ``kid`` of its header.
            now: The time.

        Raises:
            TokenRejected: REVOKED.
            RevocationsUnavailable: It is not known, and has to be.
        """
        issuer, audiences, revoked, current_until = self._known
        if token.issuer == issuer:
            if revoked.has(token, key_id):  # 1
                raise TokenRejected(RejectionReason.REVOKED)
            if now < current_until and token.audience in audiences:  # 2
                return
        if not token.scopes or not self._unknown_allowed.issuperset(token.scopes):  # 3
            raise RevocationsUnavailable(self._why_unknown(token, now), retry_after=_SOON)

    def take(self, news: RevocationNews, now: float, unix_now: float) -> bool:
        """Take in a message of the stream; return whether it told the position, so that the stream works.

        Args:
            news: The message.
            now: When it came.
            unix_now: The same, in Unix seconds.

        Raises:
            TooManyRevoked: There is no room for what it tells. Nothing is current, and the next stream begins anew.
            BeginAnew: It leaves out what was never told.
        """
        if news.beginning is not None:
            self._begin(news.beginning)
        if self._about is None:
            raise BeginAnew("the stream of revocations does not say what it is about")
        self._arriving.forget(unix_now)
        try:
            self._arriving.learn(news)
        except BaseException:  # whatever it was: not all is known
            self._known = self._known._replace(current_until=_LONG_AGO)
            self._position = None
            raise
        if news.version is None:
            return False
        about = self._about
        self._known = _Known(about.issuer, about.audiences, self._arriving, now + self._max_silence)
        self._position = Position(news.version, about.ledger)
        return True

    def _begin(self, beginning: WatchBeginning) -> None:
        if not beginning.resumed:
            self._arriving = RevokedTokens(self._most)  # what was known stays in force until all was told
        elif self._position is None or not self._continues(beginning):
            self._position = None
            raise BeginAnew("the stream of revocations is about something else than the one before")
        else:
            self._arriving = self._known.revoked
        self._about = beginning

    def _continues(self, beginning: WatchBeginning) -> bool:
        # Of an audience that is new, nothing was told before the position.
        return beginning.issuer == self._known.issuer and beginning.audiences <= self._known.audiences

    def _why_unknown(self, token: VerifiedToken, now: float) -> str:
        issuer, audiences, _, current_until = self._known
        if not issuer:
            return "it is not known yet which tokens are revoked"
        if token.issuer != issuer:
            return "the stream of revocations is another issuer's"
        if token.audience not in audiences:
            return "the stream of revocations does not cover this audience: name this server in its 'servers'"
        if current_until == _LONG_AGO:
            return "more is revoked than is kept here"
        return f"nothing was heard of revocations for {now - current_until + self._max_silence:.0f} s"


class RevocationCheck(Protocol):
    """Tells a verifier whether a token was revoked. Thread-safe."""

    def refuse_revoked(self, token: VerifiedToken, key_id: str) -> None:
        """Return if a token may be taken.

        Args:
            token: What a token says that passed every other rule.
            key_id: The ``kid`` of its header.

        Raises:
            TokenRejected: REVOKED.
            RevocationsUnavailable: It is not known, and has to be.
        """
