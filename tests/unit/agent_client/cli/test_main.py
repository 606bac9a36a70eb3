"""``spiffe-token`` without an issuer; tests/rpc/test_agent_client_cli*.py have it with one."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from agent_client import errors
from agent_client.cli.failure import EXIT_CODES, ExitCode
from agent_client.cli.main import HELP
from agent_client.cli.messages import plain

if TYPE_CHECKING:
    from pathlib import Path

GET = ["get", "--audience", "https://api.test", "--scope", "read"]
QUIET = {name: value for name, value in os.environ.items() if not name.startswith("SPIFFE_")}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent_client", *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=QUIET | {"COLUMNS": "200"} | environment,
        timeout=60,
    )


def test_help_has_examples_and_every_exit_code() -> None:
    shown = run("--help").stdout
    assert "spiffe-token get --audience" in shown
    for code in (0, *ExitCode):
        assert f"{int(code)}  " in shown
    assert "curl" in run("get", "--help").stdout


def test_help_is_plain_where_there_is_no_terminal() -> None:
    assert "\x1b" not in run("--help").stdout
    assert "\x1b" not in run(*GET).stderr


def test_nothing_at_all_shows_the_help() -> None:
    assert "Usage: python -m agent_client" in run().stdout + run().stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["get"], "--audience"),
        (["gett"], "gett"),
        ([*GET, "--tl", "5m"], "--ttl"),
        ([*GET, "--ttl", "5"], "1h30m"),
        ([*GET, "--timeout", "0s"], "--timeout"),
        ([*GET, "--output", "yaml"], "json"),
        (GET, "SPIFFE_ISSUER_ADDRESS"),
        ([*GET, "--issuer", "https://issuer"], "host:port"),
        ([*GET, "--issuer", "issuer:1"], "SPIFFE_ENDPOINT_SOCKET"),
        ([*GET, "--issuer", "issuer:1", "--socket", "tcp://1"], "unix:///"),
        ([*GET, "--issuer", "issuer:1", "--socket", "unix:///a", "--issuer-name", "spiffe://a/b"], "DNS name"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_command_line_is_told_what_is_wrong(arguments: list[str], told: str) -> None:
    ended = run(*arguments)
    assert ended.returncode == ExitCode.USAGE
    assert ended.stdout == ""
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_workload_api_that_is_away_is_told_once(tmp_path: object) -> None:
    ended = run(*GET, "--issuer", "issuer.test:1", "--socket", f"unix://{tmp_path}/agent.sock", "--timeout", "1s")
    assert ended.returncode == ExitCode.UNAVAILABLE
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ")
    assert "is the SPIRE agent running" in line


def test_every_error_has_one_exit_code() -> None:
    kinds = [kind for kind in EXIT_CODES for other in EXIT_CODES if kind is not other and issubclass(kind, other)]
    assert not kinds
    assert EXIT_CODES[errors.AccessDenied] is ExitCode.DENIED


def test_what_a_terminal_would_obey_is_replaced() -> None:
    assert plain("a\x1b[31mb\r\nc\u202ed é [bold]") == "a\ufffd[31mb\ufffd\ufffdc\ufffdd é [bold]"


def test_the_help_names_every_exit_code_that_there_is() -> None:
    listed = {line.split()[0] for line in HELP.partition("Exit codes")[2].splitlines() if line[4:5].isdigit()}
    assert listed == {"0", *(str(int(code)) for code in ExitCode)}


def with_closed(streams: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it by a shell that closes streams, as in ``>&-``."""
    program = ["sh", "-c", f'exec "$@" {streams}', "sh", sys.executable, "-m", "agent_client", *arguments]
    return subprocess.run(program, check=False, capture_output=True, text=True, env=QUIET, timeout=60, input="a.b.c")


def test_a_closed_standard_output_is_told() -> None:
    ended = with_closed(">&-", "completion", "bash")
    assert (ended.returncode, ended.stdout) == (ExitCode.NOT_WRITTEN, "")
    assert ended.stderr == "error: standard output cannot be written: it is closed\n"


def test_a_closed_standard_error_changes_nothing_but_that() -> None:
    refused, done = with_closed("2>&-", *GET), with_closed("2>&-", "inspect", "--offline")
    assert (refused.returncode, refused.stdout) == (ExitCode.USAGE, "")
    assert (done.returncode, done.stdout.partition(",")[0]) == (ExitCode.FAILED, "REFUSED")


def test_a_closed_standard_input_is_an_empty_one() -> None:
    ended = with_closed("<&-", "inspect", "--offline")
    assert (ended.returncode, ended.stdout) == (ExitCode.USAGE, "")
    assert "there is no token: standard input is empty" in ended.stderr


ON_MACOS = """
import signal

for missing in ("SIGRTMAX", "SIGRTMIN", "sigtimedwait"):
    delattr(signal, missing)
from agent_client.cli.main import main

main()
"""


def test_a_system_without_real_time_signals_has_all_but_staying_with_a_program(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", ON_MACOS, *arguments],
            check=False,
            capture_output=True,
            text=True,
            env=QUIET,
            timeout=60,
        )

    assert run("--help").returncode == 0
    asked = ("--audience", "https://api.test", "--scope", "read")
    for staying in (("--file", str(tmp_path / "token")), ("--on-renewal", "restart")):
        ended = run("exec", *asked, *staying, "--", "true")
        assert (ended.returncode, ended.stdout) == (ExitCode.CANNOT_RUN, "")
        assert "give the token in a variable" in ended.stderr
    assert "SPIFFE_ISSUER_ADDRESS" in run("exec", *asked, "--", "true").stderr  # it goes on to ask the issuer
