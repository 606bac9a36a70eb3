"""Completion: the scripts parse, and the program answers them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

AS_INSTALLED = "import sys; sys.argv[0] = 'spiffe-token'; from agent_client.cli.main import main; main()"


def run(*arguments: str, given: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", AS_INSTALLED, *arguments],
        input=given,
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | variables,
        timeout=60,
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_printed_and_parses(shell: str) -> None:
    script = run("completion", shell)
    assert (script.returncode, script.stderr) == (0, "")
    assert "_SPIFFE_TOKEN_COMPLETE" in script.stdout
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script.stdout, text=True, check=True)


def test_another_shell_is_told_which_there_are() -> None:
    ended = run("completion", "tcsh")
    assert ended.returncode == 2
    assert "fish" in ended.stderr


def test_the_script_completes_in_a_real_shell(tmp_path: Path) -> None:
    program = tmp_path / "spiffe-token"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{AS_INSTALLED}" "$@"\n')
    program.chmod(0o755)
    script = run("completion", "bash").stdout
    asked = "COMP_WORDS=(spiffe-token ex); COMP_CWORD=1; _spiffe_token_completion spiffe-token ex; echo ${COMPREPLY[@]}"
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ended = subprocess.run(
        ["bash", "-c", f"{script}\n{asked}"], check=False, capture_output=True, text=True, env=os.environ | path
    )
    assert ended.stdout == "exec\n", ended.stderr


def test_options_are_completed() -> None:
    variables = {"_SPIFFE_TOKEN_COMPLETE": "complete_bash", "COMP_WORDS": "spiffe-token get --aud", "COMP_CWORD": "2"}
    assert run(**variables).stdout.split() == ["--audience"]
