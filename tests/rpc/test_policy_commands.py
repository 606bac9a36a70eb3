"""``issuer policy status``, ``reload`` and ``rollback`` as an operator runs them, against a real issuer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from support.commands import issuer_command
from support.deployment import POLICY, SETTLER, Deployment

from issuer_testing.free_port import free_port

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

VIEWER, OPERATOR = (f"spiffe://dev.test/admin/{role}" for role in ("viewer", "operator"))
SECOND = POLICY + "    mode: audit\n"


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    roles: dict[str, object] = {"viewers": [VIEWER], "operators": [OPERATOR]}
    with Deployment(tmp_path, options={"admin": roles}) as running:
        yield running


def run(
    deployment: Deployment, *arguments: str, identity: str = OPERATOR, **variables: str
) -> subprocess.CompletedProcess[str]:
    return issuer_command(deployment, "policy", *arguments, identity=identity, **variables)


def document(deployment: Deployment, *arguments: str) -> dict[str, object]:
    ended = run(deployment, *arguments, "--output", "json")
    assert (ended.returncode, ended.stderr) == (0, "")
    read: dict[str, object] = json.loads(ended.stdout)
    return read


def test_a_policy_is_loaded_looked_at_and_taken_back(deployment: Deployment) -> None:
    first = document(deployment, "status")["current"]
    assert isinstance(first, dict)
    assert (first["audiences"], first["grants"], first["load_time"][-1]) == (1, 1, "Z")
    deployment.policy_file.write_text(SECOND, encoding="utf-8")
    second = document(deployment, "reload")["current"]
    assert isinstance(second, dict)
    assert second["digest"] != first["digest"]
    loaded = run(deployment, "status", identity=VIEWER)
    assert loaded.returncode == 0
    assert loaded.stdout.splitlines() == [
        f"in force: {second['digest']} since {second['load_time']}, 1 audience, 1 grant, 0 prohibitions, 0 limits",
        f"kept: {first['digest']} since {first['load_time']}, 1 audience, 1 grant, 0 prohibitions, 0 limits",
        "in audit mode: settlement",
    ]
    back = run(deployment, "rollback", first["digest"])
    assert (back.returncode, back.stderr) == (0, "")
    assert back.stdout.startswith(f"in force: {first['digest']} since ")
    held = run(deployment, "status").stdout
    assert "held by a rollback: files are not followed until `issuer policy reload`\n" in held
    assert second["digest"] in held
    assert document(deployment, "reload")["current"]["digest"] == second["digest"]  # type: ignore[index]
    assert document(deployment, "status")["pinned"] is False


def test_a_broken_policy_is_told_with_its_faults_and_stays_in_the_status(deployment: Deployment) -> None:
    deployment.policy_file.write_text(POLICY.replace("grants:", "grantz:"), encoding="utf-8")
    refused = run(deployment, "reload")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "policy.yaml:" in refused.stderr
    assert "did you mean 'grants'" in refused.stderr
    assert "reason: POLICY_INVALID" in refused.stderr
    told = run(deployment, "status").stdout
    assert "the last load was refused at " in told
    assert "\n  policy.yaml:" in told
    assert "POLICY_INVALID" not in told
    assert "did you mean 'grants'" in str(document(deployment, "status")["last_fault"])


def test_refusals_are_readable(deployment: Deployment) -> None:
    unknown = run(deployment, "rollback", "sha256:0")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "reason: POLICY_UNKNOWN" in unknown.stderr
    assert "issuer policy status" in unknown.stderr
    for command, identity in (("status", SETTLER), ("reload", VIEWER)):
        refused = run(deployment, command, identity=identity)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "reason: RPC_NOT_ALLOWED" in refused.stderr
        assert "request: " in refused.stderr


def test_an_issuer_or_an_agent_that_is_not_there_is_told(deployment: Deployment, tmp_path: Path) -> None:
    away = run(deployment, "status", "--issuer", f"127.0.0.1:{free_port()}", "--timeout", "1s")
    assert (away.returncode, away.stdout) == (1, "")
    assert "cannot be reached" in away.stderr
    impostor = run(deployment, "status", "--issuer-name", "other.workload.internal")
    assert (impostor.returncode, impostor.stdout) == (1, "")
    assert "did not prove to be the issuer" in impostor.stderr
    silent = run(deployment, "status", "--socket", f"unix://{tmp_path}/nobody.sock", "--timeout", "1s")
    assert (silent.returncode, silent.stdout) == (1, "")
    assert "nobody.sock" in silent.stderr
    assert all(line.startswith("issuer: ") for ended in (away, impostor, silent) for line in ended.stderr.splitlines())


def test_what_is_not_configured_is_told(deployment: Deployment) -> None:
    for arguments, variables in (
        ((), {"SPIFFE_ISSUER_ADDRESS": ""}),
        ((), {"SPIFFE_ENDPOINT_SOCKET": ""}),
        (("--timeout", "soon"), {}),
        (("--timeout", "0s"), {}),
        (("--issuer", "https://issuer.example"), {}),
    ):
        ended = run(deployment, "status", *arguments, **variables)
        assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
        assert ended.stderr.startswith("issuer: ")
