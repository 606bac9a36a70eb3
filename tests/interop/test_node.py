"""Our tokens through jose, the library of most Node services."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from support.minting import AUDIENCE
from support.published import Published

pytestmark = pytest.mark.interop

SOURCE = Path(__file__).with_name("node")


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The verifier, beside its one dependency, whose hash package-lock.json pins. npm keeps it in its own cache."""
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json", "verify.mjs"):
        shutil.copy(SOURCE / name, folder)
    install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    subprocess.run(install, cwd=folder, check=True, capture_output=True, timeout=280)
    return folder / "verify.mjs"


def verify(program: Path, issuer: str, audience: str, token: str) -> subprocess.CompletedProcess[str]:
    command = ["node", str(program), issuer, audience]
    return subprocess.run(command, input=token, capture_output=True, text=True, timeout=60, check=False)


def test_accepts_our_token_and_reads_what_we_wrote(published: Published, program: Path) -> None:
    decision = published.decision()
    done = verify(program, published.issuer, AUDIENCE, published.token(decision))
    assert done.stderr == ""
    assert json.loads(done.stdout) == json.loads(decision.payload())


def test_refuses_it_at_another_api(published: Published, program: Path) -> None:
    done = verify(program, published.issuer, "https://payroll.prod.example", published.token())
    assert (done.returncode, done.stdout) == (1, "")
    assert 'unexpected "aud" claim value' in done.stderr


def test_refuses_a_bad_token(published: Published, program: Path, bad_token: str) -> None:
    done = verify(program, published.issuer, AUDIENCE, bad_token)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(("ERR_JWS", "ERR_JWT", "ERR_JWKS"))
