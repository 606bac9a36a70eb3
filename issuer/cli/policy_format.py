"""``issuer policy fmt``: policy files in one way to write them."""

from __future__ import annotations

import difflib
import json
import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from issuer.cli.failure import ExitCode, fail
from issuer.cli.output import Output
from issuer.cli.policy_loading import OutputOption  # noqa: TC001 - typer reads the annotations
from issuer.policy_files.formatting import CannotFormat, formatted


def fmt(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Files, or folders of them; 'policy' when left out.", show_default=False)
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit with 1 if a file would change.")] = False,  # noqa: FBT002 - a flag
    diff: Annotated[bool, typer.Option("--diff", help="Write nothing; show what would change.")] = False,  # noqa: FBT002 - a flag
    output: OutputOption = Output.TEXT,
) -> None:
    """Format policy files and their cases: indentation, quotes, the order of keys. Comments stay; what is said stays.

    A file is replaced whole, with its permissions, or left as it is. Exit code 1 when one cannot be formatted.

    [bold]Example[/bold]

        issuer policy fmt policy/
        issuer policy fmt --check --diff policy/
    """
    changed: list[str] = []
    faults: dict[str, str] = {}
    for file in _files(paths or [Path("policy")]):
        try:
            before = file.read_bytes()
            after = formatted(before)
            if after == before:
                continue
            changed.append(str(file))
            if diff:
                _show(file, before, after, output)
            if not (check or diff):
                _replace(file, after)
        except (CannotFormat, OSError) as error:
            faults[str(file)] = str(error)
    _tell(changed, faults, output, written=not (check or diff))
    if faults or (check and changed):
        raise typer.Exit(int(ExitCode.FAILED))


def _files(paths: list[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += [file for file in sorted(path.rglob("*.yaml")) if not _is_hidden(file.relative_to(path))]
        elif path.is_file():
            found.append(path)
        else:
            fail(f"there is nothing at {path}", ExitCode.USAGE)
    return found


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _show(file: Path, before: bytes, after: bytes, output: Output) -> None:
    if output is Output.TEXT:
        old, new = (text.decode("utf-8-sig").splitlines(keepends=True) for text in (before, after))
        typer.echo("".join(difflib.unified_diff(old, new, str(file), f"{file} (formatted)")), nl=False)


def _replace(file: Path, content: bytes) -> None:
    """Put a file in the place of another in one step; through a link, in the place of what it leads to."""
    target = file.resolve()
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".fmt-")
    try:
        with os.fdopen(descriptor, "wb") as temporary:
            temporary.write(content)
            temporary.flush()
            os.fsync(descriptor)
        Path(name).chmod(target.stat().st_mode)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _tell(changed: list[str], faults: dict[str, str], output: Output, *, written: bool) -> None:
    if output is Output.JSON:
        typer.echo(json.dumps({"changed": changed, "written": written, "faults": faults}))
        return
    for name in changed:
        typer.echo(f"{'formatted' if written else 'would format'} {name}")
    for name, fault in faults.items():
        typer.echo(f"issuer: {name}: {fault}", err=True)
