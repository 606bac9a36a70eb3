"""Our tokens through Envoy's jwt_authn: examples/envoy in front of an API that itself lets everybody in."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from support.envoy import running_envoy
from support.https import write_certificate
from support.minting import AUDIENCE, Decision
from support.open_api import open_api
from support.published import Published, published_issuer

from issuer.core.token import compact_token, signing_input
from issuer_testing.deadline import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIGURE = Path(__file__).parents[2] / "examples/envoy/configure.py"
SETTLER = "spiffe://prod.example/ns/payments/sa/settler"


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    with open_api() as address:
        yield address


def configuration(issuer: str, api: str, *, ca: Path | None = None) -> str:
    command = [sys.executable, str(CONFIGURE), "--issuer", issuer, "--audience", AUDIENCE, "--scope", "ledger.read"]
    command += ["--api", api, *(["--ca", str(ca)] if ca else [])]
    environment = os.environ | ({"SSL_CERT_FILE": str(ca)} if ca else {})  # it reads the metadata by HTTPS too
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def envoy(published: Published, api: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_envoy(configuration(published.issuer, api), tmp_path_factory.mktemp("envoy")) as url:
        wait_for_keys(url, published)
        yield url


def unbound(published: Published) -> Decision:
    """Return a decision about a token that is bound to no certificate: this Envoy does not speak mutual TLS."""
    free = {"bind_certificate": False}
    return published.decision().with_grant(**free).with_request(**free)


def show(envoy: str, token: str) -> httpx.Response:
    return httpx.get(envoy, headers={"Authorization": f"Bearer {token}"})


def wait_for_keys(envoy: str, published: Published) -> None:
    """Return once Envoy has the issuer's keys: a failed fetch makes it ready too, and it tries again a second later."""
    wait_until(
        lambda: show(envoy, published.token(unbound(published))).is_success,
        what="Envoy takes a token of the issuer",
        seconds=30.0,
    )


def test_lets_our_token_through_and_tells_the_api_who_calls(envoy: str, published: Published) -> None:
    answer = show(envoy, published.token(unbound(published)))
    assert (answer.status_code, answer.text) == (200, SETTLER)


def test_what_a_caller_says_of_itself_does_not_reach_the_api(envoy: str, published: Published) -> None:
    token = published.token(unbound(published))
    answer = httpx.get(envoy, headers={"Authorization": f"Bearer {token}", "X-Caller": "spiffe://root"})
    assert (answer.status_code, answer.text) == (200, SETTLER)


def test_refuses_who_shows_no_token(envoy: str) -> None:
    answer = httpx.get(envoy)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer ")


def test_refuses_a_token_in_the_query(envoy: str, published: Published) -> None:
    assert httpx.get(envoy, params={"access_token": published.token(unbound(published))}).status_code == 401


def test_refuses_a_bad_token(envoy: str, bad_token: str) -> None:
    assert show(envoy, bad_token).status_code == 401


def test_refuses_a_token_for_another_api(envoy: str, published: Published) -> None:
    payroll = {"audience": "https://payroll.prod.example"}
    assert (
        show(envoy, published.token(unbound(published).with_grant(**payroll).with_request(**payroll))).status_code
        == 403
    )


def test_refuses_another_issuers_token_signed_with_the_same_key(envoy: str, published: Published) -> None:
    other = replace(published, issuer="https://other.prod.example")
    assert show(envoy, other.token(unbound(other))).status_code == 401


def test_refuses_a_token_without_the_scope(envoy: str, published: Published) -> None:
    others = {"scopes": ("ledger.write", "ledger.reader")}
    assert (
        show(envoy, published.token(unbound(published).with_grant(**others).with_request(**others))).status_code == 403
    )


def test_refuses_what_is_signed_by_the_issuer_but_no_access_token(envoy: str, published: Published) -> None:
    signer = published.signer
    to_sign = signing_input(signer.algorithm, signer.key_id, unbound(published).payload(), typ="JWT")
    assert show(envoy, compact_token(to_sign, signer.sign(to_sign)).reveal()).status_code == 403


def test_refuses_a_token_that_is_bound_to_a_certificate_which_nobody_showed(envoy: str, published: Published) -> None:
    assert show(envoy, published.token()).status_code == 403


def test_refuses_a_method_that_the_scope_does_not_stand_for(envoy: str, published: Published) -> None:
    assert (
        httpx.post(envoy, headers={"Authorization": f"Bearer {published.token(unbound(published))}"}).status_code == 403
    )


def test_reads_the_keys_by_https_where_the_issuer_is_certified(api: str, tmp_path: Path) -> None:
    files = write_certificate(tmp_path, dns_names=("localhost",))
    with (
        published_issuer("", tmp_path / "signing.pem", files) as published,
        running_envoy(configuration(published.issuer, api, ca=files[0]), tmp_path) as envoy,
    ):
        wait_for_keys(envoy, published)


def test_lets_nobody_in_where_the_issuers_web_server_is_certified_by_others(api: str, tmp_path: Path) -> None:
    files = write_certificate(tmp_path, dns_names=("localhost",))
    (tmp_path / "other").mkdir()
    others, _ = write_certificate(tmp_path / "other", dns_names=("localhost",))
    with published_issuer("", tmp_path / "signing.pem", files) as published:
        trusting_others = configuration(published.issuer, api, ca=files[0]).replace(str(files[0]), str(others))
        with running_envoy(trusting_others, tmp_path) as envoy:
            assert show(envoy, published.token(unbound(published))).status_code == 401
