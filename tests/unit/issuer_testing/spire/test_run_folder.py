from __future__ import annotations

import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from issuer_testing.spire import run_folder
from issuer_testing.spire.run_folder import PREFIX, RunFolder, is_abandoned, remove_abandoned

SHORT = Path("/tmp")  # noqa: S108 - where sockets fit
CRASH = """
import os, sys
from pathlib import Path
from issuer_testing.spire import run_folder
run_folder.tempfile.tempdir = sys.argv[1]
folder = run_folder.RunFolder()
print(folder.path, flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.fixture(autouse=True)
def temporary_folder(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Short, as /tmp is: pytest's own is too long for sockets."""
    folder = Path(tempfile.mkdtemp(dir=SHORT))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_run_folder_is_private_and_short(temporary_folder: Path) -> None:
    folder = RunFolder()
    assert folder.path.parent == temporary_folder
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert len(str(folder.path / "agent.sock")) < 108
    folder.remove()
    assert not folder.path.exists()


def test_a_long_temporary_folder_gives_way_to_tmp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/" + "x" * 100)
    folder = RunFolder()
    assert folder.path.parent == SHORT
    folder.remove()


def test_a_crashed_owners_folder_is_removed_by_the_next_one(temporary_folder: Path) -> None:
    crashed = subprocess.run(
        [sys.executable, "-c", CRASH, str(temporary_folder)], capture_output=True, text=True, check=False
    )
    left = Path(crashed.stdout.strip())
    assert left.exists()
    RunFolder().remove()
    assert not left.exists()


def test_a_living_owners_folder_stays(temporary_folder: Path) -> None:
    living = RunFolder()
    remove_abandoned(temporary_folder)
    assert not is_abandoned(living.path)
    assert living.path.exists()
    living.remove()


def test_a_folder_that_is_not_locked_yet_is_not_abandoned(temporary_folder: Path) -> None:
    fresh = temporary_folder / f"{PREFIX}fresh"
    fresh.mkdir()
    remove_abandoned(temporary_folder)
    assert fresh.exists()


def test_a_folder_that_is_gone_is_abandoned(temporary_folder: Path) -> None:
    assert is_abandoned(temporary_folder / "absent")


def test_other_folders_are_left_alone(temporary_folder: Path) -> None:
    other = temporary_folder / "something-else"
    other.mkdir()
    (other / run_folder._LOCK).touch()
    remove_abandoned(temporary_folder)
    assert other.exists()
