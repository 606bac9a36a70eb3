"""``python -m bench.compare OLD.json [NEW.json]``: what became worse between two runs of the suite, as ratios."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.comparing import TOLERANCE, NotComparable, compared

if TYPE_CHECKING:
    from bench.comparing import Change

LATEST = Path(__file__).parent / "results" / "latest.json"
REGRESSED, UNUSABLE = 1, 2
"""Exit codes; 0 where nothing became worse."""


def main(
    old: Annotated[Path, typer.Argument(help="JSON of the earlier run.")],
    new: Annotated[Path, typer.Argument(help="JSON of the later run.")] = LATEST,
    tolerance: Annotated[float, typer.Option(help="A figure may be so much worse, as a part of itself.")] = TOLERANCE,
    every: Annotated[bool, typer.Option("--all", help="Show what did not become worse too.")] = False,  # noqa: FBT002
) -> None:
    """Compare two results; exit code 1 when something became worse than chance explains, 2 when they do not compare.

    Each figure is first put beside SPIRE's of its own run (or Go's null RPC), so that different machines compare.

    Example: cp bench/results/latest.json before.json; make bench; make bench-compare OLD=before.json
    """
    console = Console(width=max(110, Console().width))
    try:
        changes = compared(_read(old), _read(new), tolerance)
    except NotComparable as error:
        console.print(f"error: {error}")
        raise typer.Exit(UNUSABLE) from error
    worse = [change for change in changes if change.is_regression]
    if every or worse:
        console.print(_table(changes if every else worse))
    better = sum(change.ratio <= 1 for change in changes)
    console.print(f"{len(changes)} figures compared: {better} better or equal, {len(worse)} worse than chance explains")
    raise typer.Exit(REGRESSED if worse else 0)


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise NotComparable(f"{path} cannot be read: {error}") from error


def _table(changes: list[Change]) -> Table:
    shown = Table(title="How much worse: new beside old", title_justify="left")
    for heading, side in (("subject", "left"), ("load", "right"), ("figure", "left"), ("ratio", "right"),
                          ("allowed", "right"), ("each beside", "left")):  # fmt: skip
        shown.add_column(heading, justify="left" if side == "left" else "right", no_wrap=True)
    for each in changes:
        shown.add_row(
            each.subject, each.load, each.metric, f"{each.ratio:.2f}", f"{each.allowed:.2f}", each.reference or "itself"
        )
    return shown


if __name__ == "__main__":
    typer.run(main)
