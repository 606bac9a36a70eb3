"""The examples, run as their README says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from issuer_testing.deadline import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[2]
README = ROOT / "examples/README.md"
START_SECONDS = 60.0


def commands() -> dict[str, str]:
    """Return the command of each row of the README's table, by the file or folder that the row is about."""
    rows = re.findall(r"^\| \[([^\]]+)\]\([^)]+\) \|[^|]+\| `([^`]+)` \|$", README.read_text(encoding="utf-8"), re.M)
    return dict(rows)


def words(example: str) -> list[str]:
    """Return the words of an example's command, its programs those of this environment."""
    first, *rest = shlex.split(commands()[example])
    return [str(Path(sys.executable).with_name(first)), *rest]


def run(command: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@contextmanager
def serving(command: list[str], environment: Mapping[str, str], output: Path) -> Iterator[str]:
    """Run a server, its output in a file, and yield ``host:port`` once it says where it serves."""
    environment = {**environment, "PYTHONUNBUFFERED": "1"}
    with output.open("wb") as said, subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said, stderr=said) as process:
        try:
            yield wait_until(
                lambda: _address(process, output),
                what=f"{shlex.join(command)} serves",
                seconds=START_SECONDS,
                detail=lambda: output.read_text(encoding="utf-8"),
            )
        finally:
            process.terminate()


def _address(process: subprocess.Popen[bytes], output: Path) -> str | None:
    said = output.read_text(encoding="utf-8")
    assert process.poll() is None, said
    found = re.search(r"(?:running|serving) on (?:https?://)?(\S+)", said)
    return found[1] if found else None
