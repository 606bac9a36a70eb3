"""A token file that is kept fresh, and taken away rather than left to be believed when its token has ended."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from agent_client.cli.failure import CommandFailed
from agent_client.cli.messages import tell
from agent_client.cli.token_forms import in_form

if TYPE_CHECKING:
    from agent_client import IssuedToken
    from agent_client.cli.token_file import TokenFile
    from agent_client.cli.token_forms import FileForm

RETRY_SECONDS = 5.0
"""How often a file that could not be written is tried again: a disk that was full is seldom empty sooner."""
LONGEST_SECONDS = 30.0
"""How long not to look at the clock: it may be set, and a suspended machine does not count the time it sleeps."""
_NEVER = datetime.min.replace(tzinfo=UTC)


class KeptFile:
    """One file, and the token that it holds. Not thread-safe.

    Args:
        file: Where.
        form: How the token is written.
        keep_expired: Leave a token that has ended where it is.
    """

    def __init__(self, file: TokenFile, form: FileForm, *, keep_expired: bool = False) -> None:
        self._file = file
        self._form = form
        self._keep_expired = keep_expired
        self._held: IssuedToken | None = None
        self._until = _NEVER
        self._pending: tuple[IssuedToken, datetime] | None = None

    @property
    def held(self) -> IssuedToken | None:
        """The token that is in the file."""
        return self._held

    def put(self, issued: IssuedToken, now: datetime) -> None:
        """Write a token.

        Raises:
            CommandFailed: It cannot be written; what the file held it holds still.
        """
        # Since it came just now, it lives no longer than its life from now on, by however much this clock is behind.
        self._write(issued, min(issued.expires_at, now + (issued.expires_at - issued.issued_at)), now)

    def renew(self, issued: IssuedToken, now: datetime) -> bool:
        """Write the next token, and return whether that worked. If not, it is told, and :meth:`tend` tries again."""
        try:
            self.put(issued, now)
        except CommandFailed as failure:
            tell("warning", f"{failure.message}; the token before it stays, and it is tried again")
            return False
        return True

    def tend(self, now: datetime) -> float:
        """Do what is due: try again to write, take away a token that has ended. Return seconds until the next time."""
        if self._pending is not None:
            self._try_pending(*self._pending, now)
        if self._held is not None and self._until <= now and not self._keep_expired:
            self._take_away()
        if self._pending is not None:
            return RETRY_SECONDS
        if self._held is None:
            return LONGEST_SECONDS
        return min(max((self._until - now).total_seconds(), 0.05), LONGEST_SECONDS)

    def remove(self) -> None:
        """Take the file away."""
        self._file.remove()
        self._held = self._pending = None

    def _write(self, issued: IssuedToken, until: datetime, now: datetime) -> None:
        self._pending = issued, until
        self._file.replace(in_form(self._form, issued, now) + "\n")
        self._held, self._until, self._pending = issued, until, None

    def _try_pending(self, issued: IssuedToken, until: datetime, now: datetime) -> None:
        if until <= now:
            self._pending = None
            return
        try:
            self._write(issued, until, now)
        except CommandFailed:
            return  # it was told when it began
        tell("note", f"{self._file.path} can be written again")

    def _take_away(self) -> None:
        try:
            self._file.remove()
        except CommandFailed as failure:
            tell("error", f"{failure.message}; the token in it has expired")
        else:
            tell("warning", f"{self._file.path} is taken away: its token has expired, and there is no other")
        self._held = None
