"""``spiffe-token inspect`` as a user runs it, with tokens of a real issuer, and with others."""

from __future__ import annotations

import base64
import json
import pty
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from support.deployment import LEDGER, SETTLER, Deployment
from support.spiffe_token import PROGRAM, READ, SECONDS, SHORT_LIVED, SpiffeToken

from issuer_testing.deadline import wait_until
from issuer_testing.free_port import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("issuer"), policy=SHORT_LIVED.replace("10s", "5m")) as running:
        yield running


@pytest.fixture(scope="module")
def spiffe_token(deployment: Deployment) -> SpiffeToken:
    return SpiffeToken(deployment, deployment.authority.workload(SETTLER))


@pytest.fixture
def token(spiffe_token: SpiffeToken) -> str:
    return spiffe_token.run("get", *READ).stdout.strip()


def look(spiffe_token: SpiffeToken, text: str, *options: str) -> tuple[int, dict[str, Any]]:
    issuer = ("--issuer", spiffe_token.deployment.issuer.url, "--insecure-dev")
    ended = spiffe_token.run("inspect", *issuer, *options, "--output", "json", given=text)
    assert ended.stderr == ""
    assert text.strip().rpartition(".")[2] not in ended.stdout
    return ended.returncode, json.loads(ended.stdout)


def with_claims(token: str, **claims: object) -> str:
    header, payload, signature = token.split(".")
    said = json.loads(base64.urlsafe_b64decode(payload + "==")) | claims
    return ".".join((header, base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b"=").decode(), signature))


def test_a_good_token_is_accepted(spiffe_token: SpiffeToken, token: str) -> None:
    code, found = look(spiffe_token, token, "--audience", LEDGER, "--scope", "ledger.read")
    assert (code, found["accepted"], found["signature_holds"], found["reasons"]) == (0, True, True, [])
    assert (found["lifetime"], found["claims"]["sub"], found["header"]["typ"]) == (300, SETTLER, "at+jwt")


@pytest.mark.parametrize("form", ["raw", "json", "header", "env", "kubernetes"])
def test_every_form_that_we_write_is_read(spiffe_token: SpiffeToken, form: str) -> None:
    text = spiffe_token.run("get", *READ, "--output", form).stdout
    ended = spiffe_token.run(
        "inspect", "--issuer", spiffe_token.deployment.issuer.url, "--insecure-dev", "--audience", LEDGER, given=text
    )
    assert ended.stdout.startswith("ACCEPTED: a resource server would take it\n")
    assert "(in " in ended.stdout


def test_every_reason_is_told_and_not_only_the_first(spiffe_token: SpiffeToken, token: str) -> None:
    forged = with_claims(token, exp=1, iss="https://other.test", nbf=99999999999)
    code, found = look(spiffe_token, forged, "--audience", "https://x.test", "--scope", "a", "--scope", "ledger.read")
    assert (code, found["accepted"], found["signature_holds"]) == (1, False, False)
    told = "\n".join(found["reasons"])
    for reason in (
        "signature does not hold",
        "it expired ",
        "its nbf is ",
        "it is of another issuer: 'https://other.test'",
        f"it is for another API: '{LEDGER}', not 'https://x.test'",
        "it does not have the scope a",
    ):
        assert reason in told
    assert len(found["reasons"]) == 6


def test_an_expired_token_is_told_how_long_ago(spiffe_token: SpiffeToken) -> None:
    token = spiffe_token.run("get", *READ, "--ttl", "10s").stdout.strip()

    def refused() -> dict[str, Any] | None:
        code, found = look(spiffe_token, token, "--audience", LEDGER)
        return found if code else None

    found = wait_until(refused, what="it expires", seconds=SECONDS)
    assert (found["signature_holds"], found["expires_in"] < 0) == (True, True)
    assert found["reasons"][0].startswith("it expired ")


def test_a_token_of_the_development_authority_is_refused_unless_told(spiffe_token: SpiffeToken, token: str) -> None:
    ended = spiffe_token.run("inspect", "--issuer", spiffe_token.deployment.issuer.url, given=token)
    assert ended.returncode == 1
    assert "attests nobody" in ended.stdout


def test_offline_is_loudly_unverified(spiffe_token: SpiffeToken, token: str) -> None:
    ended = spiffe_token.run("inspect", "--offline", "--insecure-dev", given=with_claims(token, sub="anybody"))
    assert ended.returncode == 0
    assert ended.stdout.startswith("UNVERIFIED: ")
    assert "anybody may have written it" in ended.stdout.splitlines()[0]
    expired = spiffe_token.run("inspect", "--offline", "--insecure-dev", given=with_claims(token, exp=1))
    assert expired.returncode == 1
    assert expired.stdout.startswith("REFUSED, and UNVERIFIED")


def test_without_an_issuer_it_is_not_the_token_that_says_whom_to_trust(spiffe_token: SpiffeToken, token: str) -> None:
    ended = spiffe_token.run("inspect", given=token)
    assert ended.returncode == 2
    assert "--issuer" in ended.stderr


def test_a_binding_is_told(spiffe_token: SpiffeToken, tmp_path: Path) -> None:
    bound = spiffe_token.run("get", *READ, "--bind").stdout
    code, found = look(spiffe_token, bound, "--audience", LEDGER)
    assert (code, len(found["certificate_sha256"])) == (0, 43)
    assert any("mutual TLS" in note for note in found["notes"])
    for name, svid, codes in (
        ("own", spiffe_token.workload.svid, 0),
        ("other", spiffe_token.deployment.svid(), 1),
    ):
        (tmp_path / name).write_bytes(svid.chain_pem())
        assert look(spiffe_token, bound, "--audience", LEDGER, "--certificate", str(tmp_path / name))[0] == codes


@pytest.mark.parametrize("pem", ["", "A", "-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n"])
def test_a_file_that_holds_no_certificate_is_told(
    spiffe_token: SpiffeToken, token: str, tmp_path: Path, pem: str
) -> None:
    (tmp_path / "pem").write_text(pem)
    ended = spiffe_token.run("inspect", "--offline", "--certificate", str(tmp_path / "pem"), given=token)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "holds no certificate in PEM" in ended.stderr


@pytest.mark.parametrize(
    "text", ["no token", "a.b", "e30.e30", "a.b.c.d", "{}", "Bearer", "\x1b[31m.e30.x", "W10.W10.x"]
)
def test_what_is_no_token_is_told_so(spiffe_token: SpiffeToken, text: str) -> None:
    ended = spiffe_token.run("inspect", "--offline", given=text)
    assert ended.returncode == 1
    assert "it is no signed token" in ended.stdout
    assert "\x1b" not in ended.stdout


def test_what_a_terminal_would_obey_is_not_printed(spiffe_token: SpiffeToken, token: str) -> None:
    ended = spiffe_token.run("inspect", "--offline", given=with_claims(token, sub="\x1b[2Jx", **{"\x1b]0;x": 1}))
    assert "\x1b" not in ended.stdout


@pytest.mark.parametrize(("given", "told"), [("", "empty"), ("a" * 70_000, "larger")])
def test_nothing_and_too_much_are_told(spiffe_token: SpiffeToken, given: str, told: str) -> None:
    ended = spiffe_token.run("inspect", "--offline", given=given)
    assert ended.returncode == 2
    assert told in ended.stderr


def test_a_file_is_read(spiffe_token: SpiffeToken, token: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(token)
    assert spiffe_token.run("inspect", "--offline", "--insecure-dev", "--file", str(tmp_path / "token")).returncode == 0
    assert spiffe_token.run("inspect", "--offline", "--file", str(tmp_path / "none")).returncode == 2


def test_a_token_on_the_command_line_is_warned_of(spiffe_token: SpiffeToken, token: str) -> None:
    ended = spiffe_token.run("inspect", token, "--offline", "--insecure-dev")
    assert ended.returncode == 0
    assert "every user of this host can read a command line" in ended.stderr


def test_keys_that_cannot_be_had_are_told_and_decide_nothing(spiffe_token: SpiffeToken, token: str) -> None:
    ended = spiffe_token.run("inspect", "--issuer", f"http://127.0.0.1:{free_port()}", given=token)
    assert (ended.returncode, ended.stdout) == (5, "")
    assert "keys cannot be had" in ended.stderr
    assert spiffe_token.run("inspect", "--issuer", "no url", given=token).returncode == 2


def test_before_a_terminal_it_says_what_it_waits_for(spiffe_token: SpiffeToken) -> None:
    _, side = pty.openpty()
    with subprocess.Popen(
        [*PROGRAM, "inspect", "--offline"],
        stdin=side,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=spiffe_token.environment(),
    ) as process:
        assert process.stderr is not None
        assert b"paste the token" in process.stderr.readline()
        process.kill()
