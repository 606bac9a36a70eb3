"""``spiffe-token`` as a user runs it, against a real issuer."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.deployment import LEDGER, POLICY, READER, SETTLER, Deployment

from agent_client.clock import utc_now
from issuer_testing.deadline import wait_until
from issuer_testing.free_port import free_port

if TYPE_CHECKING:
    from issuer_testing.spire.embedded import EmbeddedWorkload

READ = ("get", "--audience", LEDGER, "--scope", "ledger.read")


@pytest.fixture
def settler(deployment: Deployment) -> EmbeddedWorkload:
    return deployment.authority.workload(SETTLER)


def environment(deployment: Deployment, workload: EmbeddedWorkload) -> dict[str, str]:
    return os.environ | {"SPIFFE_ENDPOINT_SOCKET": workload.socket, "SPIFFE_ISSUER_ADDRESS": deployment.issuer.address}


def run(deployment: Deployment, workload: EmbeddedWorkload, *arguments: str) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(
        [sys.executable, "-m", "agent_client", *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=environment(deployment, workload),
        timeout=60,
    )
    assert "Traceback" not in ended.stderr
    return ended


def test_prints_the_token_and_nothing_else(deployment: Deployment, settler: EmbeddedWorkload) -> None:
    ended = run(deployment, settler, *READ, "--ttl", "90s", "--bind", "--application", "payments")
    assert (ended.returncode, ended.stderr) == (0, "")
    (token,) = ended.stdout.splitlines()
    assert len(token.split(".")) == 3


def test_prints_all_that_is_known_as_json(deployment: Deployment, settler: EmbeddedWorkload) -> None:
    ended = run(deployment, settler, *READ, "--ttl", "90s", "--output", "json")
    printed = json.loads(ended.stdout)
    assert printed["access_token"].count(".") == 2
    assert (printed["token_type"], printed["scope"], printed["refused_scopes"]) == ("Bearer", "ledger.read", [])
    assert 80 <= printed["expires_in"] <= 90
    assert datetime.fromisoformat(printed["renew_at"]) < datetime.fromisoformat(printed["expires_at"])
    assert (printed["application"], bool(printed["token_id"]), bool(printed["decision_id"])) == ("payments", True, True)


def test_a_denial_is_told_with_reason_decision_and_remedy(deployment: Deployment, settler: EmbeddedWorkload) -> None:
    ended = run(deployment, settler, *READ, "--scope", "ledger.refund")
    assert (ended.returncode, ended.stdout) == (3, "")
    told = dict(line.strip().split(": ", 1) for line in ended.stderr.splitlines())
    assert "ledger.refund" in told["error"]
    assert told["reason"] == "SCOPE_NOT_ALLOWED"
    assert deployment.issuer.wait_for("rpc", decision_id=told["decision"], request_id=told["request"])
    assert "ListAccess" in told["remedy"]


def test_what_a_partial_answer_leaves_out_is_told(deployment: Deployment, settler: EmbeddedWorkload) -> None:
    ended = run(deployment, settler, *READ, "--scope", "ledger.refund", "--allow-partial")
    assert ended.returncode == 0
    assert ended.stdout.count(".") == 2
    assert ended.stderr.startswith("warning: not granted: ledger.refund")


def test_a_malformed_request_is_told_its_fields(deployment: Deployment, settler: EmbeddedWorkload) -> None:
    ended = run(deployment, settler, "get", "--audience", LEDGER, "--scope", "a b", "--scope", "")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "scopes[0]: has a character" in ended.stderr
    assert "scopes[1]: is empty" in ended.stderr


def test_text_that_is_no_unicode_is_told_so(deployment: Deployment, settler: EmbeddedWorkload) -> None:
    ended = run(deployment, settler, "get", "--audience", "a\udc80", "--scope", "read")
    assert (ended.returncode, ended.stdout) == (2, "")


def test_an_identity_that_is_not_there_is_told_with_those_that_are(deployment: Deployment) -> None:
    workload = deployment.authority.workload(READER, SETTLER)
    assert run(deployment, workload, *READ, "--spiffe-id", SETTLER).returncode == 0
    ended = run(deployment, workload, *READ, "--spiffe-id", SETTLER + "x")
    assert (ended.returncode, ended.stdout) == (5, "")
    assert f"{READER}, {SETTLER}" in ended.stderr


def test_an_issuer_that_cannot_prove_itself_is_told(deployment: Deployment, settler: EmbeddedWorkload) -> None:
    ended = run(deployment, settler, *READ, "--issuer-name", "other.workload.internal")
    assert (ended.returncode, ended.stdout) == (4, "")
    assert "did not prove to be the issuer" in ended.stderr
    assert all(line.startswith(("error: ", "  remedy: ")) for line in ended.stderr.splitlines())  # gRPC's log is quiet


def test_an_issuer_that_is_away_is_told(deployment: Deployment, settler: EmbeddedWorkload) -> None:
    ended = run(deployment, settler, *READ, "--issuer", f"127.0.0.1:{free_port()}", "--timeout", "1s")
    assert (ended.returncode, ended.stdout) == (5, "")
    assert "cannot be reached" in ended.stderr


def test_a_reader_that_went_away_is_no_traceback(deployment: Deployment, settler: EmbeddedWorkload) -> None:
    command = f"{sys.executable} -m agent_client {' '.join(READ)} | true"
    ended = subprocess.run(
        ["bash", "-c", command],
        check=False,
        capture_output=True,
        text=True,
        env=environment(deployment, settler),
        timeout=60,
    )
    assert ended.stderr == ""


def test_ctrl_c_ends_it_without_a_word(deployment: Deployment, settler: EmbeddedWorkload, tmp_path: Path) -> None:
    path = tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        silent.settimeout(20)
        with subprocess.Popen(
            [sys.executable, "-m", "agent_client", *READ, "--socket", f"unix://{path}", "--timeout", "60s"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(deployment, settler),
        ) as process:
            connection, _ = silent.accept()
            with connection:
                process.send_signal(signal.SIGINT)
                printed, told = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT
    assert (printed, told) == ("", "")


def test_colours_are_for_terminals(deployment: Deployment, settler: EmbeddedWorkload) -> None:
    terminal, side = pty.openpty()
    variables = environment(deployment, settler) | {"TERM": "xterm"}
    for name in ("NO_COLOR", "FORCE_COLOR"):
        variables.pop(name, None)
    subprocess.run(
        [sys.executable, "-m", "agent_client", *READ, "--scope", "ledger.refund"],
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=side,
        env=variables,
        timeout=60,
    )
    os.close(side)
    told = os.read(terminal, 65536).decode()
    os.close(terminal)
    assert "\x1b[1;31merror: " in told


def test_a_shell_takes_the_token_by_eval(deployment: Deployment, settler: EmbeddedWorkload) -> None:
    line = run(deployment, settler, *READ, "--output", "env", "--env-name", "API_TOKEN").stdout
    ended = subprocess.run(["sh", "-c", f"{line}\nenv"], check=True, capture_output=True, text=True)
    (token,) = (
        value for name, _, value in (v.partition("=") for v in ended.stdout.splitlines()) if name == "API_TOKEN"
    )
    assert token.count(".") == 2


def test_a_header_is_one_that_curl_takes(deployment: Deployment, settler: EmbeddedWorkload) -> None:
    name, _, value = run(deployment, settler, *READ, "--output", "header").stdout.partition(": ")
    assert (name, value.split()[0], value.count(".")) == ("Authorization", "Bearer", 2)


def test_kubectl_gets_its_credential(deployment: Deployment, settler: EmbeddedWorkload) -> None:
    beta = "client.authentication.k8s.io/v1beta1"
    asked = json.dumps({"kind": "ExecCredential", "apiVersion": beta, "spec": {"interactive": False}})
    ended = subprocess.run(
        [sys.executable, "-m", "agent_client", *READ, "--output", "kubernetes"],
        check=True,
        capture_output=True,
        text=True,
        env=environment(deployment, settler) | {"KUBERNETES_EXEC_INFO": asked},
    )
    credential = json.loads(ended.stdout)
    assert (credential["apiVersion"], credential["status"]["token"].count(".")) == (beta, 2)
    assert datetime.fromisoformat(credential["status"]["expirationTimestamp"]) > utc_now()


def test_a_version_that_kubectl_asks_for_and_is_not_known_costs_no_token(
    deployment: Deployment, settler: EmbeddedWorkload
) -> None:
    before = len(deployment.issuer.log())
    ended = subprocess.run(
        [sys.executable, "-m", "agent_client", *READ, "--output", "kubernetes"],
        check=False,
        capture_output=True,
        text=True,
        env=environment(deployment, settler) | {"KUBERNETES_EXEC_INFO": "{}"},
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert not [line for line in deployment.issuer.log()[before:] if line.get("event") == "rpc"]


def test_a_full_disk_behind_standard_output_is_told(deployment: Deployment, settler: EmbeddedWorkload) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "agent_client", *READ],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(deployment, settler),
        )
    assert ended.returncode == 6
    assert ended.stderr == "error: standard output cannot be written: No space left on device\n"


def test_an_intent_is_told_to_policy(own_deployment: Deployment) -> None:
    condition = '    when: request.intent.ticket == "CHG-17"\n'
    own_deployment.policy_file.write_text(POLICY + condition, encoding="utf-8")
    own_deployment.issuer.signal(signal.SIGHUP)
    workload = own_deployment.authority.workload(SETTLER)
    wait_until(lambda: run(own_deployment, workload, *READ).returncode == 3, what="policy is loaded", seconds=60)
    assert run(own_deployment, workload, *READ, "--ticket", "CHG-17").returncode == 0
    assert run(own_deployment, workload, *READ, "--ticket", "CHG-18").returncode == 3


def test_a_failure_is_told_as_json_where_the_token_would_be(deployment: Deployment, settler: EmbeddedWorkload) -> None:
    ended = run(deployment, settler, *READ, "--scope", "ledger.refund", "--output", "json")
    told = json.loads(ended.stderr)
    assert (told["level"], told["reason"], bool(told["decision"])) == ("error", "SCOPE_NOT_ALLOWED", True)
