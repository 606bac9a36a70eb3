"""Groups of options become options of the command."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from agent_client.cli.option_groups import with_option_groups


@dataclass(frozen=True)
class Place:
    host: Annotated[str, typer.Option(help="Where.")]
    port: Annotated[int, typer.Option("--at", help="Which.")] = 80


seen: list[object] = []


@with_option_groups
def visit(*, place: Place, loud: Annotated[bool, typer.Option("--loud")] = False) -> None:
    """Visit a place."""
    seen.append((place, loud))


app = typer.Typer()
app.command()(visit)


def test_fields_are_options_with_their_names_defaults_and_help() -> None:
    assert CliRunner().invoke(app, ["--host", "a", "--at", "7", "--loud"]).exit_code == 0
    assert CliRunner().invoke(app, ["--host", "b"]).exit_code == 0
    assert seen == [(Place("a", 7), True), (Place("b", 80), False)]
    assert "Where." in CliRunner().invoke(app, ["--help"]).output


@pytest.mark.parametrize("arguments", [[], ["--host", "a", "--at", "x"]])
def test_what_is_required_or_of_a_type_stays_so(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_the_command_keeps_its_name_and_text() -> None:
    assert (visit.__name__, inspect.getdoc(visit)) == ("visit", "Visit a place.")
