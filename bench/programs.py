"""The Go programs of the suite, built from the pinned ``bench/go.mod``: the load generator, and a null server."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

from issuer_testing.spire.binaries import UnusableSpire
from issuer_testing.spire.go_toolchain import find_go
from issuer_testing.spire.settings import SpireSettings

BUILT = Path(__file__).parents[1] / ".cache" / "bench"
"""Where what the suite builds and installs is kept."""


@functools.cache
def go_program(name: str) -> Path:
    """Build ``bench/NAME`` and return the program; Go itself finds out whether there is anything to do.

    Raises:
        LookupError: It cannot be built here. The message says why.
    """
    BUILT.mkdir(parents=True, exist_ok=True)
    try:
        go = find_go(SpireSettings.from_environment(), print)
    except UnusableSpire as error:
        raise LookupError(f"{name} is built with Go: {error}") from error
    program = BUILT / name
    command = [str(go), "build", "-mod=readonly", "-o", str(program), f"./{name}"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LookupError(f"{name} cannot be built: {done.stderr.strip()[-500:]}")
    return program
