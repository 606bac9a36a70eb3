"""`issuer dev up`, used as it says, and what it leaves behind."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from issuer_testing.deadline import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES = ["embedded", pytest.param("spire", marks=pytest.mark.spire)]


class DevUp:
    """A running `issuer dev up`, and what it told its user."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said = ""

    def read_until(self, text: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if text in line:
                return
        raise AssertionError(f"it ended without saying {text!r}:\n{self.said}")

    def children(self) -> set[int]:
        """Return every process below it."""
        return _below(self.process.pid)

    def ask(self) -> subprocess.CompletedProcess[str]:
        """Type what it says to type, in another terminal."""
        environment = dict(re.findall(r"export (\w+)=(\S+)", self.said))
        command = re.search(r"(spiffe-token (?:.|\\\n)+?)\n\n", self.said)
        assert command is not None
        words = shlex.split(command[1].replace("\\\n", " "))
        return subprocess.run(
            [str(Path(sys.executable).with_name(words[0])), *words[1:]],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )


def _below(pid: int) -> set[int]:
    found: set[int] = set()
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            found |= {child} | _below(child)
    return found


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def dev_up(source: str, temporary: Path) -> Iterator[DevUp]:
    command = [sys.executable, "-m", "issuer", "dev", "up", "--source", source]
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        try:
            yield DevUp(process)
        finally:
            process.kill()


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short name: sockets are below it."""
    return tmp_path_factory.mktemp("t")


@pytest.mark.parametrize("source", SOURCES)
def test_what_it_says_to_type_gets_a_token_and_ctrl_c_leaves_nothing_behind(source: str, temporary: Path) -> None:
    with dev_up(source, temporary) as up:
        up.read_until("Ctrl-C ends everything")
        asked = up.ask()
        assert asked.returncode == 0, asked.stderr
        assert asked.stdout.count(".") == 2
        children = up.children()
        assert children
        up.process.send_signal(signal.SIGINT)
        up.read_until("nothing is left behind")
        assert up.process.wait(30) == 0
    assert not [pid for pid in children if _alive(pid)]
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("source", SOURCES)
def test_nothing_runs_on_after_a_crash_and_the_next_start_cleans_up(source: str, temporary: Path) -> None:
    with dev_up(source, temporary) as up:
        up.read_until("Ctrl-C ends everything")
        children = up.children()
        up.process.kill()
    wait_until(lambda: not [pid for pid in children if _alive(pid)], what="every process has ended", seconds=20)
    with dev_up(source, temporary) as up:
        up.read_until("Ctrl-C ends everything")
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(30) == 0
    assert not list(temporary.glob("spire-dev-*"))


def test_refuses_a_source_that_it_does_not_know() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "issuer", "dev", "up", "--source", "vault"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "auto, spire, embedded" in run.stderr
