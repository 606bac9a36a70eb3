from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from issuer_testing.deadline import wait_until
from issuer_testing.spire.guarded_process import GuardedProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

# Writes its process id, then stays; {trap} lets it say how it was ended.
PROGRAM = "{trap} echo $$ > pid.new; mv pid.new pid; while :; do sleep 0.05; done"
OWNER = """
import sys
from pathlib import Path
from issuer_testing.spire.guarded_process import GuardedProcess
folder = Path(sys.argv[1])
command = ["/bin/sh", "-c", f"cd {folder}; " + sys.argv[2]]
GuardedProcess(command, folder=folder, log_file=folder / "log", environment={})
sys.stdin.read()
"""


class Running:
    def __init__(self, folder: Path, program: str) -> None:
        self.folder = folder
        folder.mkdir()
        self.process = GuardedProcess(
            ["/bin/sh", "-c", f"cd {folder}; {program}"], folder=folder, log_file=folder / "log", environment={"A": "b"}
        )

    def pid(self) -> Path:
        return pid_in(self.folder)


def pid_in(folder: Path) -> Path:
    file = folder / "pid"
    wait_until(file.exists, what="the program runs", seconds=30)
    return Path("/proc") / file.read_text().strip()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    started = Running(tmp_path / "run", PROGRAM.format(trap="trap 'echo asked; exit 3' TERM;"))
    yield started
    started.process.kill()


def test_stop_asks_the_program_to_end_and_waits(running: Running) -> None:
    program = running.pid()
    running.process.stop()
    assert not program.exists()
    assert (running.folder / "log").read_text() == "asked\n"
    assert running.process.exit_code == 3


def test_kill_does_not_ask(running: Running) -> None:
    program = running.pid()
    running.process.kill()
    assert not program.exists()
    assert (running.folder / "log").read_text() == ""
    assert running.process.exit_code == 128 + signal.SIGKILL


def test_a_stopped_process_may_be_stopped_again(running: Running) -> None:
    running.pid()
    running.process.stop()
    running.process.stop()


def test_the_end_of_the_program_shows_with_its_exit_code(tmp_path: Path) -> None:
    ended = Running(tmp_path / "run", "exit 7")
    wait_until(lambda: ended.process.exit_code is not None, what="it ended", seconds=30)
    assert ended.process.exit_code == 7
    ended.process.stop()
    assert ended.folder.exists()


def test_the_program_gets_its_environment_and_no_other(tmp_path: Path) -> None:
    printed = Running(tmp_path / "run", "/usr/bin/env")
    wait_until(lambda: printed.process.exit_code is not None, what="it ended", seconds=30)
    printed.process.stop()
    names = {line.partition("=")[0] for line in (printed.folder / "log").read_text().splitlines()}
    assert "A" in names
    assert not names & {"HOME", "PATH"}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_owners_death_ends_the_program_and_removes_the_folder(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder), PROGRAM.format(trap="")],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as owner:
        program = pid_in(folder)
        owner.send_signal(number)
    wait_until(lambda: not program.exists(), what="the program is gone", seconds=30)
    wait_until(lambda: not folder.exists(), what="the folder is gone", seconds=30)


def test_the_guards_death_ends_the_program(running: Running) -> None:
    program = running.pid()
    running.process._guard.kill()
    wait_until(lambda: not program.exists(), what="the program is gone", seconds=30)


def test_a_program_that_ignores_the_request_is_killed(tmp_path: Path) -> None:
    deaf = Running(tmp_path / "run", PROGRAM.format(trap="trap '' TERM;"))
    program = deaf.pid()
    deaf.process.stop()
    assert not program.exists()


def test_the_guard_is_a_program_of_its_own() -> None:
    """It starts in isolated mode, without this package: it must need nothing but the standard library."""
    guard = Path(sys.modules[GuardedProcess.__module__].__file__ or "").with_name("guard.py")
    program = textwrap.dedent(f"""
        import runpy, sys
        sys.argv = ["guard.py", "/nonexistent", "true"]
        try: runpy.run_path({str(guard)!r}, run_name="__main__")
        except SystemExit as end: assert end.code == 0, end.code
        assert not [name for name in sys.modules if name.startswith("issuer_testing")]
    """)
    # The pipe stays open until it has ended: its closing would be an order to stop.
    with subprocess.Popen(
        [sys.executable, "-I", "-c", program], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as guarded:
        assert guarded.stderr is not None
        said = guarded.stderr.read()
        assert guarded.wait(30) == 0, said
