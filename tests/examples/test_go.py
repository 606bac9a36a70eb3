"""The Go example, by the README's command; tests/interop/test_go_client.py looks closer."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from support.examples import ROOT, commands, run

from issuer_testing.spire.go_toolchain import find_go
from issuer_testing.spire.settings import SpireSettings

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.interop


def test_gets_a_token(settler: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    shutil.copytree(ROOT / "examples/go", tmp_path / "examples/go", ignore=shutil.ignore_patterns("issuer_api"))
    go = find_go(SpireSettings.from_environment(), print)
    path = f"{go.parent}{os.pathsep}{settler['PATH']}"
    environment = os.environ | settler | {"PATH": path, "GOFLAGS": "-trimpath"}
    done = run(commands()["go/"], environment, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(".") == 2
