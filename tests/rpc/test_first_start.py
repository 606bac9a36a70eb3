"""The first minutes of an operator: init, check, serve, with the files as they were written."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from issuer_testing.free_port import free_port
from issuer_testing.issuer_process import ISSUER_DNS_NAME
from issuer_testing.spire.embedded import DevelopmentAuthority
from issuer_testing.spire.entry import Entry

if TYPE_CHECKING:
    from pathlib import Path


def issuer(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "issuer", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={"PATH": "/usr/bin", **environment},
    )


def test_the_starting_files_serve_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "spiffe-issuer"
    with issuer("init", str(folder)) as init:
        init.communicate()
    assert init.returncode == 0
    with issuer("policy", "check", str(folder / "policy")) as check:
        output, _ = check.communicate()
    assert check.returncode == 0, output
    with DevelopmentAuthority("dev.test", announce=lambda _: None) as authority:
        identity = authority.workload(Entry("spiffe://dev.test/spiffe-issuer", dns_names=(ISSUER_DNS_NAME,)))
        environment = {
            "SPIFFE_ENDPOINT_SOCKET": identity.socket,
            "ISSUER_SERVER_LISTEN": "127.0.0.1:0",
            "ISSUER_HTTP_LISTEN": f"127.0.0.1:{free_port()}",
        }
        with issuer("serve", "--config", str(folder / "issuer.toml"), "--insecure-dev", **environment) as server:
            assert server.stdout is not None
            events = []
            for line in server.stdout:
                events.append(json.loads(line)["event"])
                if events[-1] == "readiness":
                    server.terminate()
    assert server.returncode == 0
    assert events[:2] == ["policy_loaded", "ledger_open"]
    assert events[-2:] == ["stopping", "stopped"]


@pytest.mark.parametrize(
    ("ledger", "said"),
    [
        ("postgresql = 'postgresql://me:hunter2@db.example/x?nonsense=1'", "cannot be read"),
        ("postgresql = 'host=/nowhere user=me password=hunter2 dbname=x'", "postgresql:///nowhere/x: "),
        ("file = 'policy.yaml/ledger.sqlite3'", "Not a directory|File exists"),
        ("file = 'policy.yaml'", "not a database"),
    ],
)
def test_a_ledger_that_cannot_be_opened_is_told_at_start(tmp_path: Path, ledger: str, said: str) -> None:
    (tmp_path / "policy.yaml").write_text("version: 1\n" + "#" * 200, encoding="utf-8")
    settings = "issuer.url = 'https://issuer.example'\npolicy.path = 'policy.yaml'\nkeys.file = 'keys/key.pem'\n"
    (tmp_path / "issuer.toml").write_text(f"{settings}ledger.{ledger}\n", encoding="utf-8")
    (tmp_path / "keys").mkdir(mode=0o700)
    with issuer("serve", "--config", str(tmp_path / "issuer.toml")) as server:
        output, _ = server.communicate(timeout=60)
    assert server.returncode == 1
    assert re.search(f"issuer: the ledger cannot be opened: .*({said})", output)
    assert "Traceback" not in output
    assert "hunter2" not in output


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["serve", "--config", "none.toml"], 2, "none.toml: no such file; `issuer init` writes one"),
        (["serve", "--confg", "x"], 2, "No such option"),
        (["polcy"], 2, "No such command"),
        (["policy", "check", "nowhere"], 2, "there is nothing at nowhere"),
    ],
)
def test_a_wrong_command_says_what_is_wrong_without_a_traceback(
    tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "issuer", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == code
    assert said in run.stdout + run.stderr
    assert "Traceback" not in run.stderr
