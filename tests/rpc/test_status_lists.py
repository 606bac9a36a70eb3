"""Status lists of a real issuer, read by our verifier and by other libraries."""

from __future__ import annotations

import json
import signal
import time
import zlib
from base64 import urlsafe_b64decode
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import jwt
import pytest
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet
from support.deployment import LEDGER, READER, REQUEST, SETTLER
from support.eventually import eventually
from support.ledgers import rows
from support.revocations import READS, Revocable

from agent_client.verification import RejectionReason, StatusLists, TokenRejected, TokenVerifier
from issuer.core.status_index import BLOCK_SIZE, LIST_SIZE
from issuer_api.v1 import issuer_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POLICY = f"""\
version: 1
risk_tiers: {{high: {{status: required, proof_binding: optional}}}}
audiences:
  - name: {LEDGER}
    application: ledger
    scopes:
      - {{name: ledger.read, risk: low}}
      - {{name: ledger.write, risk: high}}
grants:
  - id: settlement
    owner: payments-team
    workloads: ["{SETTLER}"]
    application: payments
    audience: {LEDGER}
    scopes: [ledger.read, ledger.write]
"""
WRITE = pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.write"])
KNOWN_WITHIN = 3.0
"""A revocation is in the signed list within a second; a busy machine gets two more."""


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[Revocable]:
    with Revocable(tmp_path, POLICY + READS, status={"ttl": "1s", "valid_for": "2m"}) as running:
        yield running


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "issuer" / "ledger" / "ledger.sqlite3"


def claims_of(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    claims: dict[str, Any] = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


def entry_of(token: str) -> tuple[int, str]:
    listed = claims_of(token)["status"]["status_list"]
    return listed["idx"], listed["uri"]


def kill(issuer: Revocable) -> None:
    """Let the issuer die at once, and start it again."""
    issuer.issuer.signal(signal.SIGKILL)
    issuer.issuer.wait()
    issuer.issuer.start()


def bit(token: str) -> int:
    """Return what the issuer's list says of a token, read without any of our code."""
    index, uri = entry_of(token)
    answer = httpx.get(uri, headers={"accept": "application/statuslist+jwt"})
    if answer.status_code != 200:
        return -1
    lst = claims_of(answer.text)["status_list"]["lst"]
    entries = zlib.decompress(urlsafe_b64decode(lst + "=" * (-len(lst) % 4)))
    return entries[index // 8] >> index % 8 & 1


def seconds_until_revoked(*tokens: str) -> float:
    began = time.monotonic()
    eventually(lambda: all(bit(token) == 1 for token in tokens), within=20.0)
    return time.monotonic() - began


def test_a_token_names_its_entry_where_policy_requires_one_and_nowhere_else(issuer: Revocable, ledger: Path) -> None:
    assert "status" not in claims_of(issuer.issued(request=REQUEST).token)
    token = issuer.issued(request=WRITE).token
    index, uri = entry_of(token)
    assert uri.startswith(f"{claims_of(token)['iss']}/status-lists/")
    recorded = rows(ledger, "SELECT status FROM decision WHERE status IS NOT NULL")
    assert recorded == [(int(uri.rpartition("/")[2]) * LIST_SIZE + index,)]
    assert eventually(lambda: bit(token) == 0)


def test_the_list_is_good_for_other_libraries(issuer: Revocable) -> None:
    index, uri = entry_of(issuer.issued(request=WRITE).token)
    text = eventually(lambda: answer.text if (answer := httpx.get(uri)).is_success else "")
    jwks = httpx.get(f"{issuer.issuer.url}/.well-known/jwks.json").json()
    by_pyjwt = jwt.decode_complete(text, jwt.PyJWKSet.from_dict(jwks).keys[0], algorithms=["ES256"], subject=uri)
    assert by_pyjwt["header"]["typ"] == "statuslist+jwt"
    by_joserfc = joserfc_jwt.decode(text, KeySet.import_key_set(jwks), algorithms=["ES256"])
    joserfc_jwt.JWTClaimsRegistry(sub={"essential": True, "value": uri}).validate(by_joserfc.claims)
    assert by_joserfc.claims == by_pyjwt["payload"]
    assert by_joserfc.claims["status_list"]["bits"] == 1
    assert index < LIST_SIZE
    metadata = httpx.get(f"{issuer.issuer.url}/.well-known/oauth-authorization-server").json()
    assert metadata["status_list_aggregation_endpoint"] == by_joserfc.claims["status_list"]["aggregation_uri"]
    assert uri in httpx.get(f"{issuer.issuer.url}/status-lists").json()["status_lists"]


def test_revoking_one_token_sets_its_bit_and_no_other(issuer: Revocable) -> None:
    revoked, other = issuer.issued(request=WRITE).token, issuer.issued(request=WRITE).token
    issuer.revoke(token_id=claims_of(revoked)["jti"])
    assert seconds_until_revoked(revoked) < KNOWN_WITHIN
    assert bit(other) == 0


@pytest.mark.parametrize(
    "selector",
    [
        {"workload": "spiffe://dev.test/ns/payments/**"},
        {"audience": LEDGER},
        {"application": "payments"},
        {"rule": "settlement"},
        {"everything": True},
        {"workload": SETTLER, "stops_issuance": False},
    ],
    ids=str,
)
def test_revoking_by_attributes_sets_the_bits_of_all_that_it_hits(issuer: Revocable, selector: dict[str, Any]) -> None:
    tokens = [issuer.issued(request=WRITE).token for _ in range(3)]
    issuer.revoke(**selector)
    assert seconds_until_revoked(*tokens) < KNOWN_WITHIN


def test_a_revocation_of_others_sets_no_bit_and_a_later_token_is_alive(issuer: Revocable) -> None:
    before = issuer.issued(request=WRITE).token
    issuer.revoke(workload=READER)
    made = issuer.revoke(workload=SETTLER).revocation
    assert seconds_until_revoked(before) < KNOWN_WITHIN
    issuer.lift(made.revocation_id)
    after = issuer.issued(request=WRITE).token
    eventually(lambda: bit(after) == 0)
    assert bit(before) == 1, "lifting brings no token back to life"


def test_the_verifier_refuses_a_revoked_token_when_its_list_is_due(issuer: Revocable) -> None:
    token, other = issuer.issued(request=WRITE).token, issuer.issued(request=WRITE).token
    name = claims_of(token)["iss"]
    with TokenVerifier(name, LEDGER, insecure_dev=True, status=StatusLists()) as verifier:
        eventually(lambda: verifier.verify(token))
        issuer.revoke(token_id=claims_of(token)["jti"])

        def refused() -> bool:
            try:
                verifier.verify(token)
            except TokenRejected as rejected:
                return rejected.reason is RejectionReason.REVOKED
            return False

        eventually(refused)
        assert verifier.verify(other)


def test_after_kill_9_what_was_revoked_is_so_in_the_list_and_no_entry_is_given_twice(
    issuer: Revocable, ledger: Path
) -> None:
    tokens = [issuer.issued(request=WRITE).token for _ in range(4)]
    issuer.revoke(token_id=claims_of(tokens[0])["jti"])
    kill(issuer)
    tokens += [issuer.issued(request=WRITE).token for _ in range(4)]
    eventually(lambda: bit(tokens[0]) == 1)
    issuer.revoke(workload=SETTLER)
    kill(issuer)
    eventually(lambda: all(bit(token) == 1 for token in tokens))
    entries = [entry_of(token) for token in tokens]
    assert len(set(entries)) == len(entries)
    recorded = rows(ledger, "SELECT count(status), count(DISTINCT status) FROM decision WHERE status IS NOT NULL")
    assert recorded == [(8, 8)]
    assert rows(ledger, "SELECT count(*) FROM claim WHERE key LIKE 'status/%'")[0][0] >= 2


def test_at_once_every_token_gets_an_entry_of_its_own(issuer: Revocable, ledger: Path) -> None:
    """More than a block: callers in their own threads, each with batches."""
    batch = pb.BatchIssueTokensRequest(requests=[WRITE] * 128)

    def ask(_: int) -> list[str]:
        with issuer.stub() as stub:
            return [result.response.token for result in stub.BatchIssueTokens(batch, timeout=60).results]

    with ThreadPoolExecutor(4) as threads:
        tokens = [token for some in threads.map(ask, range(10)) for token in some]
    entries = [entry_of(token) for token in tokens]
    assert len(set(entries)) == len(entries) == 1280
    indexes = [index for index, _ in entries]
    assert indexes[:1000] != sorted(indexes[:1000])
    assert rows(ledger, "SELECT count(*) FROM claim WHERE key LIKE 'status/%'")[0][0] >= 2


def test_workers_share_no_entry_and_one_list_knows_what_each_of_them_revokes(tmp_path: Path) -> None:
    options: dict[str, dict[str, object]] = {"server": {"workers": 2}, "status": {"ttl": "1s", "valid_for": "2m"}}
    with Revocable(tmp_path, POLICY + READS, **options) as issuer:
        # Each over a connection of its own: that all land on one worker happens once in 8 million times.
        tokens = [issuer.issued(request=WRITE).token for _ in range(24)]
        entries = [entry_of(token) for token in tokens]
        assert len(set(entries)) == len(entries)
        assert len({index // BLOCK_SIZE for index, _ in entries}) == 2, "each worker has a block"
        for token in tokens[:4]:
            issuer.revoke(token_id=claims_of(token)["jti"])
        eventually(lambda: all(bit(token) == 1 for token in tokens[:4]))
        assert not any(bit(token) for token in tokens[4:])
        issuer.revoke(workload=SETTLER)
        eventually(lambda: all(bit(token) == 1 for token in tokens))
