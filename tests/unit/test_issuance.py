"""The request path, with the real decision, minting and second check."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from issuer.core import claims
from issuer.core.caller import Caller
from issuer.core.claims import TokenProfile
from issuer.core.claims_check import ClaimsMismatch
from issuer.core.errors import InvalidTokenRequest, PolicyDenied, Reason, TemporarilyUnavailable
from issuer.core.spiffe_id import SpiffeId
from issuer.core.token_request import TokenRequest
from issuer.facts.book import Facts
from issuer.facts.store import FactStore
from issuer.issuance import Issuance, IssuedToken, LogFields
from issuer.policy_files.directory import load_policy
from issuer.signing.es256 import Es256Signer
from issuer.system import RandomIds

if TYPE_CHECKING:
    from pathlib import Path

    from issuer.core.policy import Policy

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
AUDIENCE = "https://ledger.dev.test"
CALLER = Caller(SpiffeId.parse("spiffe://dev.test/a"), b"0" * 32, 1, NOW + timedelta(hours=1))
REQUEST = TokenRequest(AUDIENCE, ("ledger.read",))
POLICY = f"""\
version: 1
audiences:
  - name: {AUDIENCE}
    application: ledger
    max_ttl: 10m
    scopes: [{{name: ledger.read, risk: low}}]
grants:
  - {{id: one, owner: x, workloads: ["spiffe://dev.test/a"], audience: "{AUDIENCE}", scopes: [ledger.read]}}
"""


class Book:
    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def current(self) -> Policy:
        return self._policy


class BrokenSigner(Es256Signer):
    def sign(self, signing_input: bytes) -> bytes:
        raise TemporarilyUnavailable(Reason.SIGNER_UNAVAILABLE, "the key cannot be used")


class NeverSigns(Es256Signer):
    def sign(self, signing_input: bytes) -> bytes:
        raise AssertionError("signed")


def issuance(tmp_path: Path, signer: type[Es256Signer] = Es256Signer) -> Issuance:
    (tmp_path / "policy.yaml").write_text(POLICY, encoding="utf-8")
    return Issuance(
        profile=TokenProfile("https://issuer.dev.test"),
        policies=Book(load_policy(tmp_path / "policy.yaml")),
        facts=Facts(FactStore()),
        signer=signer(ec.generate_private_key(ec.SECP256R1())),
        ids=RandomIds(),
    )


async def issue(
    path: Issuance, request: TokenRequest = REQUEST, *, validate_only: bool = False, fields: LogFields | None = None
) -> IssuedToken:
    log_fields = {} if fields is None else fields
    return await path.issue_token(CALLER, request, now=NOW, validate_only=validate_only, log_fields=log_fields)


async def test_the_log_names_the_token_by_its_hash(tmp_path: Path) -> None:
    fields: LogFields = {}
    issued = await issue(issuance(tmp_path), fields=fields)
    assert issued.token is not None
    assert fields["token_sha256"] == issued.token.sha256.hex()
    assert (fields["token_id"], fields["decision_id"]) == (issued.token_id, issued.decision_id)
    assert issued.token.reveal() not in str(fields)


async def test_a_denial_names_its_decision_in_the_error_and_in_the_log(tmp_path: Path) -> None:
    fields: LogFields = {}
    with pytest.raises(PolicyDenied) as denied:
        await issue(issuance(tmp_path), TokenRequest(AUDIENCE, ("ledger.write",)), fields=fields)
    assert denied.value.reason is Reason.SCOPE_NOT_ALLOWED
    assert denied.value.decision_id == fields["decision_id"]
    assert "token_id" not in fields


async def test_a_ttl_below_the_shortest_is_a_fault_of_that_field(tmp_path: Path) -> None:
    with pytest.raises(InvalidTokenRequest) as refused:
        await issue(issuance(tmp_path), TokenRequest(AUDIENCE, ("ledger.read",), ttl=timedelta(seconds=9)))
    assert [violation.field for violation in refused.value.violations] == ["ttl"]


async def test_validating_signs_nothing(tmp_path: Path) -> None:
    issued = await issue(issuance(tmp_path, NeverSigns), validate_only=True)
    assert (issued.token, issued.token_id) == (None, "")
    assert issued.grant.scopes == ("ledger.read",)


async def test_a_key_that_cannot_be_used_ends_without_a_token(tmp_path: Path) -> None:
    with pytest.raises(TemporarilyUnavailable):
        await issue(issuance(tmp_path, BrokenSigner))


async def test_claims_that_are_not_what_was_decided_are_never_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = claims.Claims.payload
    monkeypatch.setattr(
        claims.Claims, "payload", lambda self: honest(self).replace(b'"ledger.read"', b'"ledger.read ledger.write"')
    )
    with pytest.raises(ClaimsMismatch):
        await issue(issuance(tmp_path, NeverSigns))
