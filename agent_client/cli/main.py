"""``spiffe-token``: tokens for programs in any language."""

from __future__ import annotations

import logging
import signal
import sys
from typing import NoReturn

import typer

from agent_client.cli.completion import completion, prepare_completion
from agent_client.cli.doctor import doctor
from agent_client.cli.execute import execute
from agent_client.cli.failure import failure_of
from agent_client.cli.get import get
from agent_client.cli.inspect_token import inspect_token
from agent_client.cli.messages import tell_failure
from agent_client.cli.printing import end_by, fill_closed_streams
from agent_client.cli.serve import serve
from agent_client.cli.write import write
from agent_client.settings import silence_grpc

HELP = """Get tokens from spiffe-issuer, as the workload that SPIRE knows this process as.

[bold]Example[/bold]

    export SPIFFE_ENDPOINT_SOCKET=unix:///run/spire/agent.sock
    export SPIFFE_ISSUER_ADDRESS=issuer.prod.example:8443
    spiffe-token doctor
    spiffe-token get --audience https://api.example --scope read

[bold]Which command[/bold]

    get      a token, now: for scripts, curl, kubectl
    exec     run a program with one: for cron jobs, and programs that read a variable or a file
    write    keep one fresh in a file: a sidecar
    serve    give several out on this host: for programs that can make a request
    inspect  see what is in a token, and why an API would refuse it
    doctor   find out why there is none

[bold]Exit codes[/bold]

    0  done
    1  anything that is not below
    2  the command line, the environment or the request is wrong
    3  denied by policy
    4  not authenticated: this workload to the issuer, or the issuer to it
    5  the issuer or the Workload API is unavailable, or has no such identity
    6  a file, a socket or standard output cannot be written
    7  people have to approve it first, and have not answered yet
    126  exec: the program cannot be run
    127  exec: there is no such program

[bold]Environment[/bold]

    SPIFFE_ENDPOINT_SOCKET  where the Workload API is
    SPIFFE_ISSUER_ADDRESS   where the issuer is
    NO_COLOR                no colours, as if there were no terminal
"""

app = typer.Typer(
    name="spiffe-token",
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(name="get")(get)
# What follows the program's name is the program's, with `--` before it or without.
app.command(name="exec", context_settings={"allow_interspersed_args": False})(execute)
app.command(name="write")(write)
app.command(name="serve")(serve)
app.command(name="inspect")(inspect_token)
app.command(name="doctor")(doctor)
app.command(name="completion")(completion)


def main() -> NoReturn:
    """Run the command line. Whatever happens, the user gets a message and an exit code, never a traceback."""
    fill_closed_streams()
    silence_grpc()
    prepare_completion()
    # Ctrl-C ends the process on the spot, also while it waits for a lock; what has to tidy up says otherwise.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    logging.basicConfig(format="warning: %(message)s", level=logging.ERROR)
    try:
        app()
    except BrokenPipeError:
        end_by(signal.SIGPIPE)
    except Exception as error:  # noqa: BLE001 - the last line of defence
        sys.exit(tell_failure(failure_of(error)))
    sys.exit()
