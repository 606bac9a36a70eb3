"""What a command says to people, or to their log: on standard error, never with a token in it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_client.cli.failure import CommandFailed, ExitCode

_STYLES = {"error": "bold red", "warning": "bold yellow", "note": "bold"}


class MessageForm(StrEnum):
    """For people, or for programs."""

    TEXT = "text"
    JSON = "json"


@dataclass
class _Speech:
    """How messages are told. One for the process: the last line of defence has no command to ask."""

    form: MessageForm = MessageForm.TEXT


_speech = _Speech()


def tell_as(form: MessageForm) -> None:
    """Tell everything from now on in this form."""
    _speech.form = form


def tell(kind: str, message: str, details: Sequence[tuple[str, str | None]] = ()) -> None:
    """Tell a message.

    Args:
        kind: ``error``, ``warning`` or ``note``.
        message: What happened, in one sentence.
        details: Names and values that belong to it; those without a value are left out. Of a note, programs alone get
            them: for people it is one line.
    """
    known = [(name, value) for name, value in details if value]
    if _speech.form is MessageForm.JSON:
        sys.stderr.write(json.dumps({"level": kind, "message": message, **dict(known)}) + "\n")
        sys.stderr.flush()
        return
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text.assemble((f"{kind}: ", _STYLES[kind]), plain(message)))
    for name, value in known if kind != "note" else ():
        console.print(Text.assemble((f"  {plain(name)}: ", "bold"), plain(value)))


def tell_failure(failure: CommandFailed) -> ExitCode:
    """Tell why a command cannot go on, and return what it exits with."""
    tell("error", failure.message, failure.details)
    return failure.code


def plain(text: str) -> str:
    """Return ``text`` without what a terminal would obey: some of it came over the network."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
