"""``issuer init``: a configuration and a policy to start from."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from issuer.cli.failure import fail

_FILES = {
    "issuer.toml": ("issuer", "starter.toml"),
    "policy/policy.yaml": ("issuer.policy_files", "starter.yaml"),
    "policy/policy.test.yaml": ("issuer.policy_files", "starter.test.yaml"),
}


def init(
    folder: Annotated[Path, typer.Argument(help="Where to write; made when it is not there.")] = Path(),
) -> None:
    """Write a commented issuer.toml, policy/policy.yaml and the cases that test it. Never overwrites.

    [bold]Example[/bold]

        issuer init /etc/spiffe-issuer
    """
    targets = {folder / name: source for name, source in _FILES.items()}
    if present := [str(path) for path in targets if path.exists()]:
        fail(f"{', '.join(present)} is there already; nothing was written")
    try:
        for path, (package, name) in targets.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files(package).joinpath(name).read_text(encoding="utf-8"), encoding="utf-8")
            typer.echo(f"wrote {path}")
    except OSError as error:
        fail(f"cannot write: {error}")
    typer.echo(f"next: edit them, then run `issuer serve --config {folder / 'issuer.toml'}`")
