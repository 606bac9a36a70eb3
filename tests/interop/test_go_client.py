"""A Go service gets tokens with go-spiffe and stubs of its own, generated from proto/ as any user would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import jwt
import pytest
from support.deployment import ISSUER_ID, LEDGER, READER, SETTLER, Deployment

from issuer_testing.spire.development_files import development_entries
from issuer_testing.spire.go_toolchain import find_go
from issuer_testing.spire.settings import SpireSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from issuer_testing.issuer_process import Identity, IssuerProcess
    from issuer_testing.plugin import WorkloadMaker

pytestmark = pytest.mark.interop

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, built in a copy, so that no stubs stay behind. Go keeps objects: only the first build is slow."""
    copy = tmp_path_factory.mktemp("go_client")
    shutil.copytree(ROOT / "proto", copy / "proto")
    example = shutil.copytree(ROOT / "examples/go", copy / "examples/go", ignore=shutil.ignore_patterns("issuer_api"))
    go = find_go(SpireSettings.from_environment(), print)
    path = os.pathsep.join([str(go.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    for command in (["./generate"], ["go", "build", "-trimpath", "-o", "token", "."]):
        subprocess.run(command, cwd=example, check=True, timeout=280, env=os.environ | {"PATH": path})
    return example / "token"


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("issuer")) as running:
        yield running


def ask(
    program: Path, issuer: IssuerProcess, caller: Identity, *request: str, issuer_id: str = ISSUER_ID
) -> subprocess.CompletedProcess[str]:
    """Run the Go program as a workload; a request is an audience and scopes."""
    return subprocess.run(
        [str(program), issuer.address, issuer_id, *request],
        env={"SPIFFE_ENDPOINT_SOCKET": caller.socket, "SPIFFE_ID": caller.spiffe_id},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def claims_of(issuer: IssuerProcess, token: str, audience: str = LEDGER) -> dict[str, object]:
    """Verify a token, from the issuer's URL alone."""
    known = httpx.get(f"{issuer.url}/.well-known/oauth-authorization-server").json()
    key = jwt.PyJWKClient(known["jwks_uri"]).get_signing_key_from_jwt(token)
    claims: dict[str, object] = jwt.decode(token, key, ["ES256"], audience=audience, issuer=issuer.url)
    return claims


def test_gets_a_token_for_the_workload_that_it_is(program: Path, deployment: Deployment) -> None:
    settler = deployment.authority.workload(SETTLER)
    done = ask(program, deployment.issuer, settler, LEDGER, "ledger.read", "ledger.write")
    assert (done.returncode, done.stderr) == (0, "")
    claims = claims_of(deployment.issuer, done.stdout.strip())
    assert (claims["sub"], claims["aud"], claims["scope"]) == (SETTLER, LEDGER, "ledger.read ledger.write")


def test_reads_from_a_denial_why_and_which_decision(program: Path, deployment: Deployment) -> None:
    done = ask(program, deployment.issuer, deployment.authority.workload(READER), LEDGER, "ledger.read")
    assert (done.returncode, done.stdout) == (1, "")
    (refused,) = (line for line in deployment.issuer.log() if line.get("reason") == "AUDIENCE_NOT_ALLOWED")
    assert done.stderr.startswith(f"AUDIENCE_NOT_ALLOWED (decision {refused['decision_id']})\n")
    assert "PermissionDenied" in done.stderr


def test_tells_nothing_to_a_server_with_another_spiffe_id(program: Path, deployment: Deployment) -> None:
    before = len(deployment.issuer.log())
    settler = deployment.authority.workload(SETTLER)
    done = ask(program, deployment.issuer, settler, LEDGER, "ledger.read", issuer_id=f"{ISSUER_ID}/other")
    assert (done.returncode, done.stdout) == (1, "")
    assert "unexpected ID" in done.stderr
    assert not [line for line in deployment.issuer.log()[before:] if line["event"] == "rpc"]


@pytest.mark.spire
def test_gets_a_token_under_a_real_spire(program: Path, issuer: IssuerProcess, workload: WorkloadMaker) -> None:
    settler = workload("spiffe://prod.example/ns/payments/sa/settler")
    issuer_id = development_entries("prod.example")["issuer"].spiffe_id
    ledger = "https://ledger.prod.example"
    done = ask(program, issuer, settler, ledger, "ledger.read", issuer_id=issuer_id)
    assert (done.returncode, done.stderr) == (0, "")
    assert claims_of(issuer, done.stdout.strip(), ledger)["sub"] == settler.spiffe_id
