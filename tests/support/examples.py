"""The examples, run as their README says."""

from __future__ import annotations

import os
import re
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
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
START_SECONDS = 60.0
RUN_SECONDS = 280.0  # a first build in Go; the rest takes a few


def commands() -> dict[str, str]:
    """Return the command of each row of the README's table, by the file or folder that the row links to."""
    rows = re.findall(
        r"^\| \[[^\]]+\]\(([^)]+)\) \|[^|]+\| `([^`]+)` \|$", README.read_text(encoding="utf-8"), re.MULTILINE
    )
    return dict(rows)


def run(command: str, environment: Mapping[str, str], *, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a command line to its end, as in a shell."""
    return subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )


@contextmanager
def serving(command: str, environment: Mapping[str, str], output: Path) -> Iterator[str]:
    """Run a server, its output in a file, and yield ``host:port`` once it says where it serves.

    A port that the command names is replaced: the tests of this machine may run twice at once.
    """
    free = re.sub(r"--port \d+", "--port 0", command)
    with (
        output.open("wb") as said,
        subprocess.Popen(
            ["/bin/sh", "-c", f"exec {free}"], cwd=ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            yield wait_until(
                lambda: _address(process, output),
                what=f"{free} serves",
                seconds=START_SECONDS,
                detail=lambda: output.read_text(encoding="utf-8"),
            )
        finally:
            process.terminate()


def _address(process: subprocess.Popen[bytes], output: Path) -> str | None:
    said = output.read_text(encoding="utf-8")
    assert process.poll() is None, said
    found = re.search(r"(?:running|serving) on (?:http://)?(\S+)", said)
    return found[1] if found else None
