"""``issuer init``: a configuration and a policy to start from."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from issuer.cli.failure import fail
from issuer.cli.policy_schema import schema_text

_FILES = {
    "issuer.toml": ("issuer", "starter.toml"),
    "policy/policy.yaml": ("issuer.policy_files", "starter.yaml"),
    "policy/policy.test.yaml": ("issuer.policy_files", "starter.test.yaml"),
}
_SCHEMAS = {"policy/policy.schema.json": False, "policy/policy.test.schema.json": True}


def init(
    folder: Annotated[Path, typer.Argument(help="Where to write; made when it is not there.")] = Path(),
) -> None:
    """Write a commented issuer.toml, policy/policy.yaml, its cases, and schemas for editors. Never overwrites.

    [bold]Example[/bold]

        issuer init /etc/spiffe-issuer
    """
    targets = {
        folder / name: files(package).joinpath(file).read_text("utf-8") for name, (package, file) in _FILES.items()
    }
    targets |= {folder / name: schema_text(cases=cases) for name, cases in _SCHEMAS.items()}
    if present := [str(path) for path in targets if path.exists()]:
        fail(f"{', '.join(present)} is there already; nothing was written")
    try:
        for path, text in targets.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            typer.echo(f"wrote {path}")
    except OSError as error:
        fail(f"cannot write: {error}")
    typer.echo(f"next: edit them, then run `issuer serve --config {folder / 'issuer.toml'}`")
