"""``spiffe-token exec`` as a user runs it, against a real issuer whose tokens live for ten seconds."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.deployment import SETTLER, Deployment
from support.spiffe_token import PROGRAM, READ, SECONDS, SHORT_LIVED, SpiffeToken, is_alive, line_of

from issuer_testing.deadline import wait_until
from issuer_testing.free_port import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

EXEC = ("exec", *READ)
WAIT = "while :; do sleep 0.05; done"
COUNT_SIGNALS = """\
import os, signal, sys
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK)
for name in ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "WINCH", "CONT"):
    signal.signal(signal.Signals["SIG" + name], lambda *_: None)
signal.set_wakeup_fd(file)
print(os.getpid(), flush=True)
while True:
    signal.pause()
"""
"""A program that writes a byte into a file for every single signal: a shell's traps count two as one."""


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("issuer"), policy=SHORT_LIVED) as running:
        yield running


@pytest.fixture
def spiffe_token(deployment: Deployment) -> SpiffeToken:
    return SpiffeToken(deployment, deployment.authority.workload(SETTLER))


def shell(script: str) -> tuple[str, ...]:
    return ("--", "bash", "-c", script)


def test_the_program_has_the_token_in_a_variable_and_nowhere_else(spiffe_token: SpiffeToken) -> None:
    seen = 'echo "$ACCESS_TOKEN"; cat /proc/$$/cmdline /proc/$PPID/cmdline | tr "\\0" " "; echo; ls /proc/self/fd'
    ended = spiffe_token.run(*EXEC, *shell(seen))
    assert (ended.returncode, ended.stderr) == (0, "")
    token, arguments, *descriptors = ended.stdout.splitlines()
    assert token.count(".") == 2
    assert token not in arguments
    assert token[:40] not in arguments
    assert set(descriptors) <= {"0", "1", "2", "3"}  # 3 is that of `ls`; none of gRPC's


def test_the_variable_is_called_as_told(spiffe_token: SpiffeToken) -> None:
    ended = spiffe_token.run(*EXEC, "--env", "API_TOKEN", *shell("echo ${API_TOKEN%%.*} ${ACCESS_TOKEN-unset}"))
    assert re.fullmatch(r"eyJ\S+ unset\n", ended.stdout)


def test_what_an_outer_run_left_in_a_variable_is_not_handed_on(spiffe_token: SpiffeToken) -> None:
    ended = spiffe_token.run(*EXEC, "--env-file", "F", "--env", "T", *shell("echo ${T:0:3}"), T="outer", F="outer")
    assert ended.stdout == "eyJ\n"


def test_the_environment_is_the_users_and_nothing_of_ours(spiffe_token: SpiffeToken) -> None:
    ended = spiffe_token.run(*EXEC, *shell("echo ${GRPC_VERBOSITY-unset} $MINE; trap"), MINE="mine")
    assert ended.stdout == "unset mine\n"


def test_options_of_the_program_need_no_dashes_before_it(spiffe_token: SpiffeToken) -> None:
    ended = spiffe_token.run(*EXEC, "printf", "%s-%s", "--audience", "-x")
    assert ended.stdout == "--audience--x"


@pytest.mark.parametrize("how", [(), ("--env-file", "F")], ids=["variable", "file"])
def test_the_exit_code_is_the_programs(spiffe_token: SpiffeToken, how: tuple[str, ...]) -> None:
    assert spiffe_token.run(*EXEC, *how, *shell("exit 37")).returncode == 37


def test_a_death_by_signal_is_told_as_shells_tell_it(spiffe_token: SpiffeToken) -> None:
    assert spiffe_token.run(*EXEC, "--env-file", "F", *shell("kill -KILL $$")).returncode == 128 + 9
    assert spiffe_token.run(*EXEC, *shell("kill -KILL $$")).returncode == -9  # it has taken our place


def test_a_program_that_is_not_there_costs_no_token(spiffe_token: SpiffeToken, tmp_path: Path) -> None:
    issuer = spiffe_token.deployment.issuer
    before = len(issuer.log())
    data = tmp_path / "data"
    data.write_text("no program")
    missing, data_ran = spiffe_token.run(*EXEC, "--", "no-such-program"), spiffe_token.run(*EXEC, "--", str(data))
    assert (missing.returncode, data_ran.returncode) == (127, 126)
    assert "there is no such program" in missing.stderr
    assert not [line for line in issuer.log()[before:] if line.get("event") == "rpc"]


def test_a_refusal_is_told_and_nothing_is_started(spiffe_token: SpiffeToken, tmp_path: Path) -> None:
    mark = tmp_path / "started"
    for how in ((), ("--env-file", "F")):
        ended = spiffe_token.run(*EXEC, "--scope", "ledger.refund", *how, "--", "touch", str(mark))
        assert ended.returncode == 3
        assert "SCOPE_NOT_ALLOWED" in ended.stderr
    assert not mark.exists()


def test_the_private_file_is_for_this_user_and_gone_at_the_end(spiffe_token: SpiffeToken) -> None:
    seen = 'stat -c "%a %F" "$F" "$(dirname "$F")"; echo "$F"; cut -c1-3 "$F"'
    ended = spiffe_token.run(*EXEC, "--env-file", "F", *shell(seen))
    mode, folder_mode, path, start = ended.stdout.splitlines()
    assert (mode, folder_mode, start) == ("600 regular file", "700 directory", "eyJ")
    assert not Path(path).parent.exists()


def test_a_named_file_is_kept_and_gone_at_the_end(spiffe_token: SpiffeToken, tmp_path: Path) -> None:
    file = tmp_path / "token"
    seen = f'echo "$F"; stat -c %a {file}; echo ${{ACCESS_TOKEN-unset}}'
    ended = spiffe_token.run(*EXEC, "--file", str(file), "--env-file", "F", *shell(seen))
    assert ended.stdout.splitlines() == [str(file), "600", "unset"]
    assert not file.exists()


def test_on_renewal_the_program_gets_the_signal_after_the_file(spiffe_token: SpiffeToken) -> None:
    script = 'T=$(cat $F); trap "[ $T != \\$(cat $F) ] && echo new; exit 5" HUP; ' + WAIT
    ended = spiffe_token.run(*EXEC, "--env-file", "F", "--on-renewal", "signal:HUP", *shell(script))
    assert (ended.stdout, ended.returncode) == ("new\n", 5)


def test_on_renewal_the_program_is_started_anew(spiffe_token: SpiffeToken, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    script = f'echo $ACCESS_TOKEN >> {tokens}; [ $(wc -l < {tokens}) = 2 ] && exit 6; trap "exit 1" TERM; {WAIT}'
    ended = spiffe_token.run(*EXEC, "--on-renewal", "restart", *shell(script))
    assert (ended.returncode, ended.stderr) == (6, "")
    first, second = tokens.read_text().splitlines()
    assert first != second


def test_a_program_that_will_not_end_is_killed_before_it_is_started_anew(
    spiffe_token: SpiffeToken, tmp_path: Path
) -> None:
    starts = tmp_path / "starts"
    script = f'echo >> {starts}; [ $(wc -l < {starts}) = 2 ] && exit 6; trap "" TERM; {WAIT}'
    assert spiffe_token.run(*EXEC, "--on-renewal", "restart", *shell(script)).returncode == 6


def test_a_program_that_ends_by_itself_is_not_started_anew(spiffe_token: SpiffeToken) -> None:
    ended = spiffe_token.run(*EXEC, "--on-renewal", "restart", *shell("echo once; exit 4"))
    assert (ended.stdout, ended.returncode) == ("once\n", 4)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (("--on-renewal", "signal:HUP"), "a variable cannot change in a program that runs"),
        (("--on-renewal", "signal:KILL", "--env-file", "F"), "signal:HUP"),
        (("--on-renewal", "restart", "--ticket", "CHG-1"), "told for one operation"),
        (("--env", "1A"), "no name of a variable"),
        (("--env", "A", "--env-file", "A"), "variables of their own"),
    ],
)
def test_what_cannot_work_is_refused_at_once(spiffe_token: SpiffeToken, how: tuple[str, ...], told: str) -> None:
    ended = spiffe_token.run(*EXEC, *how, "--", "true", COLUMNS="200")
    assert ended.returncode == 2
    assert told in ended.stderr


def counting(file: Path) -> tuple[str, ...]:
    return ("--", sys.executable, "-c", COUNT_SIGNALS, str(file))


def heard_up_to(file: Path, last: int) -> list[int]:
    """Wait until the program has heard of a signal, and return the numbers of all."""
    wait_until(lambda: last in file.read_bytes(), what=f"signal {last} arrives", seconds=SECONDS)
    return list(file.read_bytes())


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "USR1", "WINCH", "CONT"])
def test_signals_are_passed_on_once(spiffe_token: SpiffeToken, tmp_path: Path, name: str) -> None:
    number = signal.Signals[f"SIG{name}"]
    with spiffe_token.start(*EXEC, "--env-file", "F", *counting(tmp_path / "heard")) as process:
        child = int(line_of(process.stdout))
        process.send_signal(number)
        heard_up_to(tmp_path / "heard", number)
        process.send_signal(signal.SIGUSR2)  # after which nothing of the first one can be under way
        assert heard_up_to(tmp_path / "heard", signal.SIGUSR2) == [number, signal.SIGUSR2]
        os.kill(child, signal.SIGKILL)
        process.communicate(timeout=SECONDS)
    assert process.returncode == 128 + 9


def test_what_is_ignored_from_the_start_stays_ignored(spiffe_token: SpiffeToken) -> None:
    script = "trap 'echo TERM; exit 3' TERM; echo $$; " + WAIT
    with spiffe_token.start(*EXEC, "--env-file", "F", *shell(script), before=("nohup",)) as process:
        line_of(process.stdout)
        process.send_signal(signal.SIGHUP)
        process.terminate()
        assert process.communicate(timeout=SECONDS)[0] == "TERM\n"
    assert process.returncode == 3


def test_ctrl_c_of_a_terminal_reaches_the_program_once(spiffe_token: SpiffeToken, tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    with TerminalSession(spiffe_token, *EXEC, "--env-file", "F", *counting(heard)) as session:
        session.read_until(rb"\d+\r\n")
        for typed, number in ((b"\x03", signal.SIGINT), (b"\x1c", signal.SIGQUIT)):  # Ctrl-C, Ctrl-\
            os.write(session.terminal, typed)
            heard_up_to(heard, number)
        # The command takes the lowest pending number first, so by this one it is done with those.
        os.kill(session.pid, signal.SIGUSR1)
        expected = [signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1]
        assert heard_up_to(heard, signal.SIGUSR1) == expected


def test_ctrl_z_stops_both_and_fg_continues_both(spiffe_token: SpiffeToken) -> None:
    with TerminalSession(spiffe_token, *EXEC, "--env-file", "F", *shell("echo $$; " + WAIT)) as session:
        child = int(session.read_until(rb"(\d+)\r\n")[1])
        os.write(session.terminal, b"\x1a")  # Ctrl-Z
        for pid in (session.pid, child):
            wait_until(partial(is_in_state, pid, "T"), what=f"{pid} is stopped", seconds=SECONDS)
        os.killpg(session.pid, signal.SIGCONT)  # as a shell does for `fg`
        for pid in (session.pid, child):
            wait_until(partial(is_in_state, pid, "SRD"), what=f"{pid} goes on", seconds=SECONDS)


def test_ctrl_c_while_the_token_is_waited_for_ends_it_without_a_word(spiffe_token: SpiffeToken) -> None:
    for how in ((), ("--env-file", "F")):
        arguments = (*EXEC, *how, "--issuer", f"127.0.0.1:{free_port()}", "--timeout", "60s", "--", "true")
        with spiffe_token.start(*arguments) as process:
            wait_until(partial(has_threads, process.pid), what="it asks", seconds=SECONDS)
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=SECONDS)
        assert (process.returncode, *said) == (-signal.SIGINT, "", "")


def test_the_program_is_killed_when_the_command_is(spiffe_token: SpiffeToken) -> None:
    script = "trap '' TERM HUP INT; echo $$; " + WAIT
    with spiffe_token.start(*EXEC, "--env-file", "F", *shell(script)) as process:
        child = int(line_of(process.stdout))
        assert is_alive(child)
        process.kill()
        wait_until(lambda: not is_alive(child), what="the program is gone", seconds=SECONDS)


def test_as_process_1_it_reaps_what_the_program_leaves_behind(spiffe_token: SpiffeToken, tmp_path: Path) -> None:
    # The inner shell ends before its own child, which then is an orphan: process 1 inherits and has to reap it.
    script = f"""(sleep 0.2 & echo $! > {tmp_path}/orphan); sleep 0.6; P=$(cat {tmp_path}/orphan)
        [ -e /proc/$P ] && grep State /proc/$P/status || echo gone; exit 8"""
    alone = ("unshare", "--pid", "--fork", "--mount-proc")
    with spiffe_token.start(*EXEC, *shell(script), before=alone) as process:
        said = process.communicate(timeout=SECONDS)
    assert (said[0], process.returncode) == ("gone\n", 8), said


def test_the_file_is_taken_away_when_its_token_ends_without_a_next_one(tmp_path: Path) -> None:
    with Deployment(tmp_path, policy=SHORT_LIVED) as deployment:
        spiffe_token = SpiffeToken(deployment, deployment.authority.workload(SETTLER))
        script = 'echo "$F"; while [ -e "$F" ]; do sleep 0.1; done; echo gone; exit 9'
        with spiffe_token.start(*EXEC, "--env-file", "F", "--timeout", "1s", *shell(script)) as process:
            line_of(process.stdout)
            deployment.issuer.stop()
            said, told = process.communicate(timeout=SECONDS)
    assert (said, process.returncode) == ("gone\n", 9)
    assert "is taken away" in told


def test_the_signal_comes_when_the_file_could_be_written_and_not_before(
    spiffe_token: SpiffeToken, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    arguments = ("--file", str(folder / "token"), "--on-renewal", "signal:HUP")
    script = f"trap '[ -e {folder}/token ] && exit 5 || exit 6' HUP; echo $$; {WAIT}"
    with spiffe_token.start(*EXEC, *arguments, *shell(script)) as process:
        line_of(process.stdout)
        folder.rename(tmp_path / "away")
        assert "it is tried again" in line_of(process.stderr)
        (tmp_path / "away").rename(folder)
        process.communicate(timeout=SECONDS)
    assert process.returncode == 5


class TerminalSession:
    """The command as the foreground process group of a terminal, as a shell starts it."""

    def __init__(self, spiffe_token: SpiffeToken, *arguments: str) -> None:
        self.terminal, side = pty.openpty()
        # A leader of the session in between, as the shell is: the command must not lead it.
        leader = (
            "import os, sys, fcntl, termios, signal\n"
            "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
            "signal.signal(signal.SIGTTOU, signal.SIG_IGN)\n"
            "pid = os.fork()\n"
            "if not pid:\n"
            "    os.setpgid(0, 0)\n"
            "    os.tcsetpgrp(0, os.getpid())\n"
            "    signal.signal(signal.SIGTTOU, signal.SIG_DFL)\n"
            "    signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
            "    os.execv(sys.argv[1], sys.argv[1:])\n"
            "open(3, 'w').write(str(pid) + '\\n')\n"
            "os.waitpid(pid, 0)\n"
        )
        reader, writer = os.pipe()
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec 3>&{writer}; exec "$@"', "-", sys.executable, "-c", leader, *PROGRAM, *arguments],
            stdin=side,
            stdout=side,
            stderr=side,
            start_new_session=True,
            pass_fds=(writer,),
            env=spiffe_token.environment(),
        )
        os.close(side)
        os.close(writer)
        with os.fdopen(reader) as told:
            self.pid = int(told.readline())
        self.said = b""

    def read_until(self, pattern: bytes) -> re.Match[bytes]:
        while (match := re.search(pattern, self.said)) is None:
            self.said += os.read(self.terminal, 4096)
        return match

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if is_alive(self.pid):
            os.kill(self.pid, signal.SIGKILL)
        self.process.wait(SECONDS)
        os.close(self.terminal)


def is_in_state(pid: int, states: str) -> bool:
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] in states


def has_threads(pid: int) -> bool:
    """Say whether gRPC has begun its work."""
    return len(list(Path(f"/proc/{pid}/task").iterdir())) > 3
