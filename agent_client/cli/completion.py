"""``spiffe-token completion``: the script that lets a shell complete our command line."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from typer.completion import completion_init, get_completion_script  # type: ignore[attr-defined] # made for this

from agent_client.cli.printing import print_result

PROGRAM = "spiffe-token"
VARIABLE = "_SPIFFE_TOKEN_COMPLETE"
"""By which the script asks: click makes its name from the program's."""


class Shell(StrEnum):
    """The shells that are known."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="For which shell.")]) -> None:
    """Print the script that makes a shell complete commands and options.

    [bold]Examples[/bold]

        spiffe-token completion bash > /etc/bash_completion.d/spiffe-token
        spiffe-token completion zsh > "${fpath[1]}/_spiffe-token"
        spiffe-token completion fish > ~/.config/fish/completions/spiffe-token.fish

    [bold]Exit codes[/bold]

    As in `spiffe-token --help`.
    """
    print_result(get_completion_script(prog_name=PROGRAM, complete_var=VARIABLE, shell=shell.value))


def prepare_completion() -> None:
    """Let the program answer what such a script asks it."""
    completion_init()
