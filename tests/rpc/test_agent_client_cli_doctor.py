"""``spiffe-token doctor`` as a user runs it, with everything in order and with everything broken in turn."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from support.deployment import LEDGER, POLICY, READER, SETTLER, Deployment
from support.spiffe_token import SpiffeToken

from issuer_testing.free_port import free_port
from issuer_testing.spire.authority import Authority, utc_now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("issuer"), policy=POLICY) as running:
        yield running


@pytest.fixture
def spiffe_token(deployment: Deployment) -> SpiffeToken:
    return SpiffeToken(deployment, deployment.authority.workload(SETTLER))


def examine(spiffe_token: SpiffeToken, *arguments: str, **variables: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """Return the exit code, and level and message of each step; of one that comes twice, the last."""
    ended = spiffe_token.run("doctor", "--timeout", "3s", "--output", "json", *arguments, **variables)
    assert ended.stderr == ""
    document = json.loads(ended.stdout)
    found = document["findings"]
    assert document["healthy"] is (ended.returncode == 0)
    assert all(finding["remedy"] for finding in found if finding["level"] in ("warning", "fault"))
    return ended.returncode, {re.sub(r" \S*:\d+$", "", f["step"]): (f["level"], f["message"]) for f in found}


def test_a_healthy_workload_is_told_so(spiffe_token: SpiffeToken) -> None:
    asked = ("--audience", LEDGER, "--scope", "ledger.read", "--issuer-url", spiffe_token.deployment.issuer.url)
    code, found = examine(spiffe_token, *asked)
    assert code == 0
    assert {level for level, _ in found.values()} == {"ok"}
    steps = ["Workload API", "issuer", "SVID", "chain", "bundle", "DNS name", "TLS", "policy", "token", "clock"]
    assert [*found] == [*steps, "metadata", "keys"]
    assert SETTLER in found["SVID"][1]
    assert f"{LEDGER} (ledger.read ledger.write)" in found["policy"][1]


def test_it_is_told_to_people_line_by_line(spiffe_token: SpiffeToken) -> None:
    ended = spiffe_token.run("doctor", "--issuer-name", "issuer.prod.svc")
    assert ended.returncode == 1
    assert ended.stdout.startswith("ok      Workload API: unix:")
    assert "\nfault   DNS name: issuer.prod.svc is a Kubernetes Service" in ended.stdout
    assert "\n        -> " in ended.stdout
    assert "\x1b" not in ended.stdout


def test_nothing_configured_is_two_faults_and_the_rest_is_left_out(spiffe_token: SpiffeToken) -> None:
    code, found = examine(spiffe_token, SPIFFE_ENDPOINT_SOCKET="", SPIFFE_ISSUER_ADDRESS="")
    assert code == 1
    assert {step: level for step, (level, _) in found.items()} == {
        "Workload API": "fault",
        "issuer": "fault",
        "policy": "skipped",
    }


def test_an_agent_that_is_away_is_told_and_the_issuers_name_still_looked_at(
    spiffe_token: SpiffeToken, tmp_path: Path
) -> None:
    code, found = examine(spiffe_token, "--socket", f"unix://{tmp_path}/agent.sock")
    assert (code, found["Workload API"][0], found["DNS name"][0]) == (1, "fault", "ok")
    assert "is the SPIRE agent running" in found["Workload API"][1]


def test_a_process_without_an_entry_is_told(spiffe_token: SpiffeToken) -> None:
    spiffe_token.workload.api.deny()
    code, found = examine(spiffe_token)
    assert code == 1
    assert "no registration entry matches it" in found["Workload API"][1]


def test_an_svid_that_has_expired_or_soon_will_is_told(spiffe_token: SpiffeToken) -> None:
    authority = spiffe_token.deployment.authority.authority
    for not_after, level, told in (
        (utc_now() - timedelta(minutes=1), "fault", "expired at"),
        (utc_now() + timedelta(minutes=5), "warning", "left"),
    ):
        svid = authority.issue(SETTLER, not_before=utc_now() - timedelta(hours=1), not_after=not_after)
        spiffe_token.workload.api.change(svids=(svid,))
        code, found = examine(spiffe_token)
        assert (code, found["SVID"][0]) == (int(level == "fault"), level)
        assert told in found["SVID"][1]


def test_a_clock_that_is_behind_is_told_by_the_svid(spiffe_token: SpiffeToken) -> None:
    later = utc_now() + timedelta(hours=1)
    svid = spiffe_token.deployment.authority.authority.issue(SETTLER, not_before=later)
    spiffe_token.workload.api.change(svids=(svid,))
    _, found = examine(spiffe_token)
    assert found["SVID"][0] == "fault"
    assert "valid only from" in found["SVID"][1]


def test_an_svid_of_another_authority_is_told(spiffe_token: SpiffeToken) -> None:
    spiffe_token.workload.api.change(svids=(Authority("dev.test").issue(SETTLER),))
    code, found = examine(spiffe_token)
    assert (code, found["chain"][0], found["TLS"][0]) == (1, "fault", "fault")


def test_an_identity_that_is_not_there_is_told(spiffe_token: SpiffeToken) -> None:
    code, found = examine(spiffe_token, "--spiffe-id", READER)
    assert (code, found["SVID"][0]) == (1, "fault")
    assert SETTLER in found["SVID"][1]


def test_an_empty_bundle_is_told(spiffe_token: SpiffeToken) -> None:
    spiffe_token.workload.api.change(bundle=())
    code, found = examine(spiffe_token)
    assert (code, found["bundle"][0], found["TLS"][0]) == (1, "fault", "fault")
    code, found = examine(spiffe_token, "--issuer-trust-domain", "other.test")
    assert "other.test" in found["bundle"][1]


def test_an_issuer_that_is_away_or_has_no_address_is_told(spiffe_token: SpiffeToken) -> None:
    code, found = examine(spiffe_token, "--issuer", f"127.0.0.1:{free_port()}")
    assert (code, found["TLS"][0], found["policy"][0]) == (1, "fault", "skipped")
    assert "Connection refused" in found["TLS"][1]
    code, found = examine(spiffe_token, "--issuer", "issuer.invalid:443")
    assert (code, found["address"][0]) == (1, "fault")


def test_who_is_not_the_issuer_is_told_with_what_it_shows(spiffe_token: SpiffeToken) -> None:
    code, found = examine(spiffe_token, "--issuer-name", "other.workload.internal")
    assert (code, found["TLS"][0]) == (1, "fault")
    assert "did not prove to be the issuer" in found["TLS"][1]
    assert "spiffe://dev.test/spiffe-issuer" in found["TLS"][1]


def test_a_workload_without_grants_is_warned(deployment: Deployment) -> None:
    code, found = examine(SpiffeToken(deployment, deployment.authority.workload(READER)))
    assert (code, found["policy"][0]) == (0, "warning")


def test_a_token_that_policy_refuses_is_told_with_its_reason(spiffe_token: SpiffeToken) -> None:
    code, found = examine(spiffe_token, "--audience", LEDGER, "--scope", "ledger.refund")
    assert (code, found["token"][0]) == (1, "fault")
    assert "SCOPE_NOT_ALLOWED" in found["token"][1]


def test_another_url_than_the_issuers_is_told(spiffe_token: SpiffeToken) -> None:
    url = spiffe_token.deployment.issuer.url.replace("127.0.0.1", "localhost")
    for wrong in (url, f"http://127.0.0.1:{free_port()}", "no url", "http://127.0.0.1:nope"):
        code, found = examine(spiffe_token, "--issuer-url", wrong)
        assert (code, found["metadata"][0], found["clock"][0]) == (1, "fault", "skipped" if wrong != url else "ok")


def test_a_wrong_command_line_is_told(spiffe_token: SpiffeToken) -> None:
    for wrong in (("--audience", LEDGER), ("--scope", "a"), ("--timeout", "0s")):
        assert spiffe_token.run("doctor", *wrong).returncode == 2
