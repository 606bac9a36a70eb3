"""``spiffe-token exec``: a program with a token."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Never

import typer

from agent_client.cli import child
from agent_client.cli.failure import CommandFailed, ExitCode
from agent_client.cli.follower import Follower
from agent_client.cli.handover import Handover, tell_lost, without
from agent_client.cli.messages import MessageForm, tell_as
from agent_client.cli.option_groups import with_option_groups
from agent_client.cli.options import ConnectionOptions, Messages, TokenOptions  # noqa: TC001 - typer reads them
from agent_client.cli.signals import CAN_WAIT, BlockedSignals
from agent_client.cli.supervisor import Hooks, OnRenewal, Supervisor
from agent_client.cli.token_forms import DEFAULT_VARIABLE, checked_variable
from agent_client.cli.waiting import told_when_slow
from agent_client.settings import environment_at_start

if TYPE_CHECKING:
    from agent_client import IssuedToken

_SIGNALS = {name: signal.Signals[f"SIG{name}"] for name in ("HUP", "USR1", "USR2", "WINCH", "INT", "TERM")}
_HANDOVER = "How the program gets it"


Command = Annotated[list[str], typer.Argument(metavar="PROGRAM [ARGUMENT]", help="What to run; write it after `--`.")]
Env = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help=f"The variable that holds the token. {DEFAULT_VARIABLE} where no file is asked for.",
        rich_help_panel=_HANDOVER,
    ),
]
File = Annotated[
    Path | None,
    typer.Option(help="Keep the token in this file, mode 0600, until the end.", rich_help_panel=_HANDOVER),
]
EnvFile = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The variable that holds the file's path; without --file, that of one in a private folder.",
        rich_help_panel=_HANDOVER,
    ),
]
Renewal = Annotated[
    str,
    typer.Option(
        metavar="none|restart|signal:NAME",
        help=f"What the program is told when there is a new token; NAME is one of {', '.join(_SIGNALS)}.",
        rich_help_panel=_HANDOVER,
    ),
]


@with_option_groups
def execute(
    *,
    command: Command,
    token: TokenOptions,
    connection: ConnectionOptions,
    env: Env = None,
    file: File = None,
    env_file: EnvFile = None,
    on_renewal: Renewal = "none",
    output: Messages = MessageForm.TEXT,
) -> None:
    """Run a program with a token in a variable or in a file, never in its arguments.

    A file is kept fresh until the program ends, and then removed; when its
    token has expired and there is no other, it is removed before that. A
    variable cannot change in a program that runs: with --env alone,
    --on-renewal is `restart` (the program gets SIGTERM, after 10 s SIGKILL, and
    is started with the new token), or nothing is renewed and the program simply
    takes the place of this command.

    [bold]Examples[/bold]

        spiffe-token exec --audience https://api.example --scope read -- ./nightly-report --all
        spiffe-token exec --audience https://api.example --scope read --env-file TOKEN_FILE -- ./worker
        spiffe-token exec --audience https://api.example --scope read --file /run/app/token --on-renewal signal:HUP -- nginx -g 'daemon off;'
        spiffe-token exec --audience https://api.example --scope read --on-renewal restart -- ./legacy-daemon

    [bold]Signals[/bold]

    TERM, INT, HUP, QUIT, USR1, USR2, WINCH, TSTP and CONT are passed on; what a
    terminal sends has reached the program already, as it is in the same process
    group. When this command is killed, the program is killed with it (Linux).
    As process 1 of a container it reaps the processes that the program leaves
    behind.

    [bold]Exit codes[/bold]

    That of the program, or 128 and the number of the signal that ended it; 126
    and 127 when it cannot be run or is not there. Before it was started: as in
    `spiffe-token --help`.

    [bold]Files[/bold]

    The private folder is made in $XDG_RUNTIME_DIR, else in /dev/shm, else in
    $TMPDIR. It stays behind only when this command is killed; the token in it
    then ends by itself.
    """  # noqa: E501 - an example is one line
    tell_as(output)
    asked, seconds, renewal = token.arguments(), connection.seconds, _on_renewal(on_renewal)
    variables = _variables(env, file, env_file)
    environment = without(environment_at_start(), *variables)
    child.refuse_missing(command[0], environment)
    with Handover(*variables, file) as handover:
        _refuse_impossible(token, renewal, handover)
        # Process 1 has to reap, and ignores what it does not handle: there, somebody stays.
        if handover.has_file or renewal.restart or os.getpid() == 1:
            _refuse_elsewhere()
            code = _supervise(command, environment, handover, renewal, (connection, asked, seconds))
        else:
            _give_way(command, environment, handover, (connection, asked))
    raise typer.Exit(code)


def _give_way(
    command: list[str],
    environment: dict[str, str],
    handover: Handover,
    source: tuple[ConnectionOptions, dict[str, Any]],
) -> Never:
    connection, asked = source
    with connection.client() as client, told_when_slow("waiting for the Workload API and the issuer"):
        issued = client.issue_token(**asked)
    child.become(command, environment | handover.give(issued))


def _refuse_elsewhere() -> None:
    if not CAN_WAIT:
        raise CommandFailed(
            ExitCode.CANNOT_RUN,
            "to stay with a program takes sigtimedwait(2) and real-time signals, which this system does not have: "
            "give the token in a variable (--env) and without --on-renewal, or keep a file fresh with `write`",
        )


def _supervise(
    command: list[str],
    environment: dict[str, str],
    handover: Handover,
    renewal: OnRenewal,
    source: tuple[ConnectionOptions, dict[str, Any], float],
) -> int:
    connection, asked, seconds = source
    with BlockedSignals() as signals, connection.client() as client:

        def launch(issued: IssuedToken) -> int:
            return child.start(command, environment | handover.give(issued), signals.mask)

        hooks = Hooks(launch, handover.renew, handover.current, tell_lost, handover.tend)
        supervisor = Supervisor(signals, hooks, renewal)
        kept = handover.has_file or renewal.restart
        follower = Follower(client.tokens_for(**asked, keep_fresh=kept), seconds, supervisor.post, once=not kept)
        follower.start()
        try:
            return supervisor.run()
        finally:
            follower.close()


def _variables(env: str | None, file: Path | None, env_file: str | None) -> tuple[str | None, str | None]:
    """Return the variables for the token and for the file's path."""
    if env is None and file is None and env_file is None:
        env = DEFAULT_VARIABLE
    for option, name in (("--env", env), ("--env-file", env_file)):
        if name is not None:
            try:
                checked_variable(name)
            except ValueError as error:
                raise typer.BadParameter(str(error), param_hint=option) from None
    if env is not None and env == env_file:
        raise typer.BadParameter("the token and the file's path need variables of their own", param_hint="--env-file")
    return env, env_file


def _on_renewal(text: str) -> OnRenewal:
    if text in ("none", "restart"):
        return OnRenewal(restart=text == "restart")
    kind, _, name = text.partition(":")
    if kind != "signal" or name not in _SIGNALS:
        known = ", ".join(f"signal:{name}" for name in _SIGNALS)
        raise typer.BadParameter(f"{text!r} is none of none, restart, {known}", param_hint="--on-renewal")
    return OnRenewal(signal=_SIGNALS[name])


def _refuse_impossible(token: TokenOptions, renewal: OnRenewal, handover: Handover) -> None:
    if renewal.signal is not None and not handover.has_file:
        raise CommandFailed(
            ExitCode.USAGE,
            "a variable cannot change in a program that runs, so a signal would tell it nothing: "
            "give --file or --env-file with it, or --on-renewal restart",
        )
    if token.has_intent and (handover.has_file or renewal.restart):
        raise CommandFailed(
            ExitCode.USAGE,
            "what a token is for is told for one operation, so it is not renewed: "
            "give it in a variable (--env) and without --on-renewal",
        )
