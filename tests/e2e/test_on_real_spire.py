"""The main job, end to end, on a real SPIRE."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import jwt
import pytest
from spiffe import SpiffeId, WorkloadApiClient

from agent_client import (
    AudienceNotAllowed,
    IssuerRequestError,
    SubjectToken,
    SubjectTokenNotTaken,
    SubjectTokenType,
)
from issuer_testing.deadline import wait_until
from issuer_testing.development import EXAMPLE_POLICY
from issuer_testing.issuer_process import IssuerProcess, IssuerSettings
from issuer_testing.spire.development_files import development_entries

if TYPE_CHECKING:
    from pathlib import Path

    from issuer_testing.plugin import SpireStarter, WorkloadMaker
    from issuer_testing.spire.environment import Spire

pytestmark = pytest.mark.spire

LEDGER = "https://ledger.prod.example"
SETTLER = "spiffe://prod.example/ns/payments/sa/settler"
READER = "spiffe://prod.example/ns/reports/sa/reader"


def claims_of(issuer: IssuerProcess, token: str) -> dict[str, object]:
    metadata = httpx.get(f"{issuer.url}/.well-known/openid-configuration").json()
    key = jwt.PyJWKClient(metadata["jwks_uri"]).get_signing_key_from_jwt(token)
    claims: dict[str, object] = jwt.decode(token, key, ["ES256"], audience=LEDGER, issuer=issuer.url)
    return claims


def test_a_workload_gets_a_token_that_an_api_can_verify(issuer: IssuerProcess, workload: WorkloadMaker) -> None:
    with issuer.client(workload(SETTLER)) as client:
        issued = client.issue_token(LEDGER, ["ledger.read"], bind_certificate=True)
        certificate = client.svid.certificates[0]
    claims = claims_of(issuer, issued.token.reveal())
    assert (claims["sub"], claims["scope"], claims["application"]) == (SETTLER, "ledger.read", "payments")
    assert "dev" not in claims
    assert issued.expires_at <= certificate.not_valid_after_utc


def test_a_scope_too_many_and_a_workload_too_many_are_refused_each_with_its_reason(
    issuer: IssuerProcess, workload: WorkloadMaker
) -> None:
    with issuer.client(workload(SETTLER)) as client, pytest.raises(IssuerRequestError) as scope:
        client.issue_token(LEDGER, ["ledger.read", "ledger.refund"])
    with issuer.client(workload(READER)) as client, pytest.raises(IssuerRequestError) as audience:
        client.issue_token(LEDGER, ["ledger.read"])
    assert (scope.value.reason, scope.value.scopes) == ("SCOPE_NOT_ALLOWED", ("ledger.refund",))
    assert audience.value.reason == "AUDIENCE_NOT_ALLOWED"
    assert scope.value.decision_id


def test_a_callers_svid_rotates_and_no_call_fails(issuer: IssuerProcess, workload: WorkloadMaker) -> None:
    with issuer.client(workload(SETTLER, x509_svid_ttl=20)) as client:
        client.issue_token(LEDGER, ["ledger.read"])
        first = client.svid.certificates[0].serial_number

        def called_under_another_svid() -> bool:
            client.issue_token(LEDGER, ["ledger.read"])
            return client.svid.certificates[0].serial_number != first

        wait_until(called_under_another_svid, what="the SVID rotates", seconds=40)
        client.issue_token(LEDGER, ["ledger.read"])


def test_the_issuers_svid_rotates_and_no_call_fails(spire: Spire, workload: WorkloadMaker, tmp_path: Path) -> None:
    entry = development_entries(spire.trust_domain)["issuer"]
    identity = workload(entry.spiffe_id + "/short", dns_names=entry.dns_names, x509_svid_ttl=20)
    settings = IssuerSettings(tmp_path, EXAMPLE_POLICY, identity.socket, spiffe_id=identity.spiffe_id)
    with IssuerProcess(settings) as issuer, issuer.client(workload(SETTLER)) as client:

        def called_after_two_updates() -> bool:
            client.issue_token(LEDGER, ["ledger.read"])
            return [line["event"] for line in issuer.log()].count("svid_updated") > 1

        wait_until(called_after_two_updates, what="the issuer's SVID rotates twice", seconds=60)


def test_calls_go_on_while_the_agent_is_killed_and_started_again(
    spire: Spire, issuer: IssuerProcess, workload: WorkloadMaker
) -> None:
    with issuer.client(workload(SETTLER)) as client:
        client.issue_token(LEDGER, ["ledger.read"])
        spire.kill_agent()
        try:
            client.issue_token(LEDGER, ["ledger.read"])
        finally:
            spire.start_agent()
        client.issue_token(LEDGER, ["ledger.read"])


def test_a_jwt_svid_of_spire_is_exchanged_by_whom_policy_names(
    spire: Spire, workload: WorkloadMaker, tmp_path: Path
) -> None:
    entry = development_entries(spire.trust_domain)["issuer"]
    identity = workload(entry.spiffe_id + "/exchange", dns_names=entry.dns_names)
    settler, reader = workload(SETTLER), workload(READER)
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        f"""\
version: 1
audiences:
  - {{name: "{LEDGER}", application: ledger, scopes: [{{name: ledger.read, risk: low}}]}}
grants:
  - id: reader-for-settler
    owner: x
    workloads: ["{READER}"]
    audience: "{LEDGER}"
    scopes: [ledger.read]
    grant_types: [token_exchange]
    subjects: ["{SETTLER}"]
""",
        encoding="utf-8",
    )
    options = {"exchange": {"jwt_svids": True}}
    settings = IssuerSettings(tmp_path / "issuer", policy, identity.socket, identity.spiffe_id, options=options)
    with IssuerProcess(settings) as issuer, issuer.client(reader) as client:
        with WorkloadApiClient(settler.socket) as source:
            subject = SpiffeId(SETTLER)  # as a process of this user it could have the others' too
            svids = {aud: source.fetch_jwt_svid({aud}, subject).token for aud in (issuer.url, LEDGER)}
        good, for_another = (SubjectToken(svids[aud], SubjectTokenType.JWT_SVID) for aud in (issuer.url, LEDGER))
        issued = client.exchange_token(good, LEDGER, ["ledger.read"])
        with pytest.raises(SubjectTokenNotTaken):
            client.exchange_token(for_another, LEDGER, ["ledger.read"])
        with issuer.client(settler) as other, pytest.raises(AudienceNotAllowed):
            other.exchange_token(good, LEDGER, ["ledger.read"])
        claims = claims_of(issuer, issued.token.reveal())
    assert (claims["sub"], claims["client_id"]) == (SETTLER, READER)
    assert claims["act"] == {"sub": READER, "iss": "spiffe://prod.example"}


def test_a_federated_workload_may_call_only_where_it_is_listed(
    spire: Spire, spire_for: SpireStarter, workload: WorkloadMaker, tmp_path: Path
) -> None:
    partner = spire_for("partner.example")
    spire.set_federated_bundle("partner.example", partner.bundle())
    partner.set_federated_bundle("prod.example", spire.bundle())
    entry = development_entries(spire.trust_domain)["issuer"]
    identity = workload(
        entry.spiffe_id + "/federated", dns_names=entry.dns_names, federates_with=["spiffe://partner.example"]
    )
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        (EXAMPLE_POLICY / "ledger.yaml")
        .read_text(encoding="utf-8")
        .replace(SETTLER, "spiffe://partner.example/auditor"),
        encoding="utf-8",
    )
    settings = IssuerSettings(
        tmp_path / "listed", policy, identity.socket, identity.spiffe_id, federated_trust_domains=("partner.example",)
    )
    other = IssuerSettings(tmp_path / "unlisted", policy, identity.socket, identity.spiffe_id)
    caller = development_entries("partner.example")["settlement-workload"]
    auditor = partner.workload(
        type(caller)("spiffe://partner.example/auditor", federates_with=("spiffe://prod.example",))
    )
    with IssuerProcess(settings) as issuer, issuer.client(auditor, issuer_trust_domain="prod.example") as client:
        assert client.issue_token(LEDGER, ["ledger.read"]).scopes == ("ledger.read",)
    with (
        IssuerProcess(other) as issuer,
        issuer.client(auditor, issuer_trust_domain="prod.example") as client,
        pytest.raises(IssuerRequestError),
    ):
        client.issue_token(LEDGER, ["ledger.read"], timeout=3)
    spire.delete_federated_bundle("partner.example")
