"""The steps that ``spire-dev/README.md`` shows an SRE, run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest

from issuer_testing.free_port import free_port
from issuer_testing.spire.development_files import CONFIGURATION
from issuer_testing.spire.settings import SpireSettings
from issuer_testing.spire.sources import get_binaries

README = (CONFIGURATION / "README.md").read_text()


@pytest.mark.spire
def test_the_steps_by_hand_end_with_the_issuers_svid_and_leave_nothing() -> None:
    (steps,) = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    settings = SpireSettings.from_environment()
    binaries = get_binaries(settings, print)
    temporary = Path(tempfile.mkdtemp())  # shorter than pytest's, for sockets
    done = subprocess.run(
        ["bash", "-eu", "-c", steps.replace("8081", str(free_port()))],
        cwd=CONFIGURATION,
        env={"PATH": f"{binaries.server.parent}{os.pathsep}{settings.search_path}", "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert "SPIFFE ID:\t\tspiffe://prod.example/spiffe-issuer" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0
    temporary.rmdir()  # refuses unless it is empty


def test_every_entry_file_is_listed() -> None:
    listed = set(re.findall(r"`entries/(\S+\.json)`", README))
    assert listed == {file.name for file in (CONFIGURATION / "entries").glob("*.json")}
