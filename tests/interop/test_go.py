"""Our tokens through two Go libraries: go-oidc, which Kubernetes and Vault use, and jwx."""

import json
import subprocess
from pathlib import Path

import pytest
from support.minting import AUDIENCE
from support.published import Published

from issuer_testing.spire.go_toolchain import find_go
from issuer_testing.spire.settings import SpireSettings

pytestmark = pytest.mark.interop

SOURCE = Path(__file__).with_name("go")


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The verifier, built. Go keeps modules and objects in its own caches, so that only the first build is slow."""
    program = tmp_path_factory.mktemp("go") / "verify"
    go = find_go(SpireSettings.from_environment(), print)
    subprocess.run([str(go), "build", "-o", str(program), "."], cwd=SOURCE, check=True, timeout=280)
    return program


def verify(program: Path, library: str, issuer: str, audience: str, token: str) -> subprocess.CompletedProcess[str]:
    command = [str(program), library, issuer, audience]
    return subprocess.run(command, input=token, capture_output=True, text=True, timeout=60, check=False)


both = pytest.mark.parametrize("library", ["go-oidc", "jwx"])


@both
def test_accepts_our_token_and_reads_what_we_wrote(published: Published, program: Path, library: str) -> None:
    decision = published.decision()
    done = verify(program, library, published.issuer, AUDIENCE, published.token(decision))
    assert done.stderr == ""
    claims = json.loads(done.stdout)
    if library == "jwx":  # which writes every audience as a list
        claims["aud"] = claims["aud"][0]
    assert comparable(claims) == comparable(json.loads(decision.payload()))


def comparable(claims: dict[str, object]) -> dict[str, object]:
    """Go writes times as floats; their value is what counts."""
    return {name: float(value) if isinstance(value, int) else value for name, value in claims.items()}


@both
def test_refuses_it_at_another_api(published: Published, program: Path, library: str) -> None:
    done = verify(program, library, published.issuer, "https://payroll.prod.example", published.token())
    assert (done.returncode, done.stdout) == (1, "")
    assert "aud" in done.stderr


@both
def test_refuses_a_bad_token(published: Published, program: Path, library: str, bad_token: str) -> None:
    done = verify(program, library, published.issuer, AUDIENCE, bad_token)
    assert (done.returncode, done.stdout) == (1, "")
