"""``spiffe-token write``: a token in a file, kept fresh."""

from __future__ import annotations

import signal
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from agent_client.cli.failure import CommandFailed, ExitCode
from agent_client.cli.follower import Follower, Lost
from agent_client.cli.kept_file import KeptFile
from agent_client.cli.messages import MessageForm, tell, tell_as
from agent_client.cli.option_groups import with_option_groups
from agent_client.cli.options import ConnectionOptions, Messages, TokenOptions  # noqa: TC001 - typer reads them
from agent_client.cli.printing import end_by
from agent_client.cli.service_manager import ServiceManager
from agent_client.cli.token_file import TokenFile, parse_mode
from agent_client.cli.token_forms import FileForm
from agent_client.cli.token_reading import has_expired
from agent_client.cli.waiting import told_when_slow
from agent_client.clock import utc_now

if TYPE_CHECKING:
    from agent_client import IssuedToken

_News: TypeAlias = "IssuedToken | Lost | signal.Signals"


@with_option_groups
def write(
    *,
    to: Annotated[Path, typer.Option(metavar="FILE", help="Where. Its folder has to exist.")],
    token: TokenOptions,
    connection: ConnectionOptions,
    form: Annotated[
        FileForm, typer.Option("--format", help="The token alone, all that is known about it, or a header.")
    ] = FileForm.RAW,
    mode: Annotated[str, typer.Option(metavar="OCTAL", help="The file's permissions.")] = "0600",
    once: Annotated[bool, typer.Option("--once", help="Write one token, and end.")] = False,
    keep_expired: Annotated[
        bool, typer.Option("--keep-expired", help="Leave an expired token in the file rather than take it away.")
    ] = False,
    output: Messages = MessageForm.TEXT,
) -> None:
    """Write a token into a file and keep it fresh until SIGTERM: as a sidecar, or as a service.

    The file is replaced whole: a reader that opens it sees one token, the old
    or the new. What cannot be written, as on a full disk, is told and tried
    again, and the old token stays; when it has expired and there is no other,
    the file is taken away, so that nobody uses what no API takes. At the end of
    this command the file stays.

    Until there is a first token it tries for --timeout and then ends, for
    whoever supervises it to start it again. After that it goes on, also when it
    is denied: policy may change.

    [bold]Examples[/bold]

        spiffe-token write --to /run/app/token --audience https://api.example --scope read
        spiffe-token write --to /run/app/token --mode 0640 --audience https://api.example --scope read --output json
        spiffe-token write --to /run/app/curl-header --format header --once --audience https://api.example --scope read

    [bold]systemd[/bold]

    With Type=notify it is ready when the first token is written, and shows in
    `systemctl status` until when that is good. WatchdogSec= is answered. One
    process keeps one token: for several, run several, or see `serve`.

    [bold]Exit codes[/bold]

    As in `spiffe-token --help`; 0 after SIGTERM.

    [bold]Environment[/bold]

    NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, as systemd sets them.
    """
    tell_as(output)
    asked, seconds, permissions = token.arguments(), connection.seconds, _mode(mode)
    if token.has_intent and not once:
        raise CommandFailed(
            ExitCode.USAGE, "what a token is for is told for one operation, so it is not renewed: use --once with it"
        )
    kept = KeptFile(TokenFile(to, permissions), form, keep_expired=keep_expired)
    with connection.client() as client:
        if once:
            with told_when_slow("waiting for the Workload API and the issuer"):
                kept.put(client.issue_token(**asked), utc_now())
            return
        writer = _Writer(kept, to, keep_expired=keep_expired)
        follower = Follower(client.tokens_for(**asked, keep_fresh=True), seconds, writer.post)
        follower.start()
        ended_by = writer.run()
    if ended_by is signal.SIGINT:
        end_by(ended_by)


class _Writer:
    """Puts the tokens that are posted to it into a file, until a signal ends it."""

    def __init__(self, kept: KeptFile, path: Path, *, keep_expired: bool) -> None:
        self._kept = kept
        self._path = path
        self._keep_expired = keep_expired
        self._news: SimpleQueue[_News] = SimpleQueue()
        self._manager = ServiceManager()

    def post(self, news: _News) -> None:
        """Tell of a token, that there is none, or of a signal. From any thread, and from a handler."""
        self._news.put(news)

    def run(self) -> signal.Signals:
        """Return the signal that ended it.

        Raises:
            Exception: Why there was no first token.
            CommandFailed: The first token could not be written.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _frame: self.post(signal.Signals(number)))
        while True:
            news = self._wait()
            if isinstance(news, signal.Signals):
                self._manager.stopping()
                return news
            if isinstance(news, Lost):
                self._lose(news.cause)
            elif news is not None:
                self._take(news)

    def _wait(self) -> _News | None:
        seconds = self._kept.tend(utc_now())
        if self._manager.watchdog_seconds is not None:
            self._manager.alive()
            seconds = min(seconds, self._manager.watchdog_seconds)
        try:
            return self._news.get(timeout=seconds)
        except Empty:
            return None

    def _take(self, issued: IssuedToken) -> None:
        until = f"{issued.expires_at:%Y-%m-%d %H:%M:%SZ}"
        if self._kept.held is None and not self._manager.is_ready:
            self._kept.put(issued, utc_now())
        elif not self._kept.renew(issued, utc_now()):
            self._manager.status(f"{self._path} cannot be written")
            return
        self._manager.ready(f"{self._path} is good until {until}")
        details = [("token", issued.token_id), ("decision", issued.decision_id)]
        tell("note", f"{self._path} is good until {until}", details)

    def _lose(self, cause: Exception) -> None:
        if not self._manager.is_ready:
            if not self._keep_expired and has_expired(self._path, utc_now()):
                self._kept.remove()
                tell("warning", f"{self._path} is taken away: the token in it, of an earlier run, has expired")
            raise cause
        tell("warning", f"there is no token: {cause}")
        self._manager.status(f"there is no token: {cause}")


def _mode(text: str) -> int:
    try:
        return parse_mode(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--mode") from None
