"""What `make demo` runs."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support.examples import ROOT


@pytest.mark.parametrize("source", ["embedded", pytest.param("spire", marks=pytest.mark.spire)])
def test_every_step_of_the_demo_happens_as_told(source: str) -> None:
    command = [sys.executable, "examples/demo.py", "--source", source]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every step happened as told" in done.stdout
