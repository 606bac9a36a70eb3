"""``issuer policy schema``: what editors need to complete and check policy files."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from issuer.cli.failure import ExitCode, fail
from issuer.core.policy_case_schema import case_schema
from issuer.core.policy_schema import policy_schema


def schema(
    cases: Annotated[bool, typer.Option("--test", help="The schema of *.test.yaml files.")] = False,  # noqa: FBT002
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write it to this file.")] = None,
) -> None:
    """Print the JSON Schema (2020-12) of policy files, for completion and checks while they are written.

    A file that begins with this line finds its schema beside it (VS Code with the YAML extension, and other
    editors with yaml-language-server):

        # yaml-language-server: $schema=policy.schema.json

    The policy is never read from it: what counts is what `issuer policy check` says.

    [bold]Example[/bold]

        issuer policy schema --output policy/policy.schema.json
    """
    text = schema_text(cases=cases)
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"cannot write: {error}", ExitCode.USAGE)
    typer.echo(f"wrote {output}")


def schema_text(*, cases: bool) -> str:
    """Return the schema of policy files, or of case files, as a document."""
    return json.dumps(case_schema() if cases else policy_schema(), indent=2, ensure_ascii=False) + "\n"
