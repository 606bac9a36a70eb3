"""Another project's suite, run as that project would run it, with nothing but the installed plugin."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

OUTSIDE = Path(__file__).with_name("outside_project")


@pytest.mark.spire
def test_an_outside_suite_gets_a_real_spire_and_a_real_issuer(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    project = shutil.copytree(OUTSIDE, tmp_path / "billing", ignore=shutil.ignore_patterns("__pycache__"))
    (project / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", f"--spire={pytestconfig.getoption('--spire')}", "-W", "error"]
    # Plugins that happen to be installed here are not that project's.
    for plugin in ("cacheprovider", "asyncio", "hypothesispytest"):
        command += ["-p", f"no:{plugin}"]
    run = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 passed" in run.stdout
