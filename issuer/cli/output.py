"""How a command prints its result: the values of ``--output``, and tables."""

from __future__ import annotations

import csv
import io
import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Output(StrEnum):
    """For people, or for programs."""

    TEXT = "text"
    JSON = "json"


class ReportOutput(StrEnum):
    """For people, for programs, or for spreadsheets."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


ReportOption = Annotated[ReportOutput, typer.Option("--output", "-o", help="A table, JSON, or CSV.")]


def tell_rows(rows: Sequence[Mapping[str, object]], columns: Sequence[str], output: ReportOutput, nothing: str) -> None:
    """Print rows.

    Args:
        rows: Each with at least ``columns``; JSON prints all that a row has.
        columns: What a table and CSV show, in this order.
        output: How.
        nothing: What to say to people when there are none.
    """
    if output is ReportOutput.JSON:
        typer.echo(json.dumps(list(rows)))
    elif output is ReportOutput.CSV:
        typer.echo(_csv(rows, columns), nl=False)
    elif rows:
        _print_table(rows, columns)
    else:
        typer.echo(nothing)


def _csv(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([_cell(row[column]) for column in columns] for row in rows)
    return text.getvalue()


def _cell(value: object) -> str:
    """Return a value as CSV text; one that a spreadsheet would take for a formula gets a quote before it."""
    text = _shown(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) and not isinstance(value, int | float) else text


def _print_table(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_shown(row[column]) for column in columns))
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:  # what goes to a file or a pipe is not cut to somebody's window
        console = Console(markup=False, highlight=False, width=10_000, no_color=True)
    with console.capture() as captured:
        console.print(table)
    typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)
