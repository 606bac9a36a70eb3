"""Approvals that persons must give, against a real issuer and an OIDC issuer: what proves one, and what does not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from support.approving import ALICE, BOB, PAYOUT, VIEWER
from support.deployment import READER, SETTLER
from support.evidence import ADMIN_ALICE, GATEWAY, POLICY, READER_HIMSELF, REFUND, Provable
from support.forging import OMIT, Forge
from support.key_server import key_server
from support.oidc import id_token

from issuer.ledger.reading import LedgerReader
from issuer.ledger.verification import verify_ledger
from issuer_api.v1 import admin_service_pb2 as admin
from issuer_api.v1 import approval_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def provable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provable]:
    with key_server() as server, Provable(tmp_path_factory.mktemp("issuer"), server) as deployment:
        yield deployment


@pytest.fixture
def asked(provable: Provable) -> Iterator[pb.ApprovalRequest]:
    request = provable.ask(REFUND)
    yield request
    provable.refusal("Cancel", request.name, SETTLER)


def test_a_person_who_signed_in_for_it_approves_and_the_token_is_issued(
    provable: Provable, asked: pb.ApprovalRequest
) -> None:
    token = provable.signed_in(asked, acr="phr", amr=["pwd", "hwk"])
    approved = provable.answer("Approve", asked.name, ALICE, id_token=token)
    assert approved.state == pb.ApprovalRequest.STATE_APPROVED
    (given,) = approved.given
    assert (given.approver, given.evidence.issuer, given.evidence.acr, list(given.evidence.amr)) == (
        ALICE, provable.oidc, "phr", ["pwd", "hwk"],
    )  # fmt: skip
    assert provable.outcome(REFUND) == "OK"


def test_what_is_kept_is_in_the_chain_and_the_token_is_nowhere(provable: Provable, asked: pb.ApprovalRequest) -> None:
    token = provable.signed_in(asked)
    kept = provable.answer("Approve", asked.name, ALICE, id_token=token).given[0].evidence
    assert len(kept.token_sha256) == len(kept.person) == 64
    folder = provable.settings.folder
    written = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert kept.token_sha256.encode() in written
    for part in token.split("."):
        assert part.encode() not in written
    assert b"00u1" not in b"".join(path.read_bytes() for path in folder.rglob("ledger*") if path.is_file())


def test_without_evidence_nobody_approves(provable: Provable, asked: pb.ApprovalRequest) -> None:
    assert provable.refusal("Approve", asked.name, ALICE) == "EVIDENCE_REQUIRED"
    assert provable.state(asked.name) == "PENDING"


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": OMIT},
        {"nonce": ""},
        {"auth_time": OMIT},
        {"auth_time": int(datetime.now(UTC).timestamp()) - 100_000},
        {"auth_time": int(datetime.now(UTC).timestamp()) + 100_000},
        {"aud": "ci"},
        {"aud": "another-client"},
        {"aud": ["spiffe-issuer", "another-client"]},
        {"iss": "https://login.elsewhere.example"},
        {"sub": "00u2"},
        {"sub": "unknown"},
        {"exp": 1},
    ],
    ids=[
        "no nonce",
        "empty nonce",
        "no auth_time",
        "long ago",
        "in the future",
        "audience of another",
        "audience that nobody has",
        "another audience as well",
        "another issuer",
        "another person",
        "nobody",
        "expired",
    ],
)
def test_a_token_that_proves_something_else_is_refused(
    provable: Provable, asked: pb.ApprovalRequest, claims: dict[str, Any]
) -> None:
    token = provable.signed_in(asked, **claims)
    assert provable.refusal("Approve", asked.name, ALICE, id_token=token) == "EVIDENCE_REFUSED"
    assert provable.state(asked.name) == "PENDING"


def test_the_digest_of_what_was_asked_is_no_nonce(provable: Provable, asked: pb.ApprovalRequest) -> None:
    token = provable.signed_in(asked, nonce=asked.digest)
    assert provable.refusal("Approve", asked.name, ALICE, id_token=token) == "EVIDENCE_REFUSED"


@pytest.mark.parametrize("text", ["x", "a.b.c", "é", "x" * 20_000])
def test_what_is_no_token_is_refused(provable: Provable, asked: pb.ApprovalRequest, text: str) -> None:
    assert provable.refusal("Approve", asked.name, ALICE, id_token=text) == "EVIDENCE_REFUSED"


def test_a_forged_token_is_refused(provable: Provable, asked: pb.ApprovalRequest) -> None:
    forged = id_token(Forge(kid=provable.forge.key_id), provable.oidc, sub="00u1", nonce=asked.evidence_nonce)
    assert provable.refusal("Approve", asked.name, ALICE, id_token=forged) == "EVIDENCE_REFUSED"


def test_evidence_is_not_replayed_not_even_for_the_same_asked_again(provable: Provable) -> None:
    first = provable.ask(REFUND)
    token = provable.signed_in(first)
    provable.answer("Approve", first.name, ALICE, id_token=token)
    assert provable.outcome(REFUND) == "OK"
    again = provable.ask(REFUND)
    assert again.digest == first.digest
    assert again.evidence_nonce != first.evidence_nonce
    assert provable.refusal("Approve", again.name, ALICE, id_token=token) == "EVIDENCE_REFUSED"
    assert provable.refusal("Approve", first.name, ALICE, id_token=token) == "OK"  # a repeated call changes nothing
    assert provable.state(first.name) == "USED_UP"
    assert provable.outcome(REFUND) == "APPROVAL_REQUIRED"
    provable.answer("Cancel", again.name, SETTLER)


def test_the_token_of_another_approver_is_of_no_use(provable: Provable, asked: pb.ApprovalRequest) -> None:
    token = provable.signed_in(asked, BOB)
    assert provable.refusal("Approve", asked.name, ALICE, id_token=token) == "EVIDENCE_REFUSED"


def test_the_requesters_own_person_does_not_approve(provable: Provable) -> None:
    asked = provable.ask(REFUND, by=READER)
    token = provable.signed_in(asked, READER_HIMSELF)
    for bringer in (READER_HIMSELF, GATEWAY):
        assert provable.refusal("Approve", asked.name, bringer, id_token=token) == "APPROVER_NOT_ALLOWED"
    provable.answer("Cancel", asked.name, READER)


def test_the_same_person_counts_once_in_a_quorum_under_two_svids_and_a_gateway(provable: Provable) -> None:
    asked = provable.ask(PAYOUT)
    provable.answer("Approve", asked.name, ALICE, id_token=provable.signed_in(asked))
    fresh = provable.signed_in(asked)
    assert provable.refusal("Approve", asked.name, ADMIN_ALICE, id_token=fresh) == "APPROVER_NOT_ALLOWED"
    assert provable.state(asked.name) == "PENDING"
    provable.answer("Approve", asked.name, BOB, id_token=provable.signed_in(asked, BOB))
    assert provable.outcome(PAYOUT) == "OK"


def test_a_gateway_carries_the_approvals_of_two_persons(provable: Provable) -> None:
    asked = provable.ask(PAYOUT)
    for person in (ALICE, BOB):
        approved = provable.answer("Approve", asked.name, GATEWAY, id_token=provable.signed_in(asked, person))
    assert [(each.approver, each.evidence.gateway) for each in approved.given] == [(ALICE, GATEWAY), (BOB, GATEWAY)]
    assert provable.outcome(PAYOUT) == "OK"


def test_a_gateway_itself_approves_and_denies_nothing(provable: Provable, asked: pb.ApprovalRequest) -> None:
    assert provable.refusal("Approve", asked.name, GATEWAY) == "APPROVER_NOT_ALLOWED"
    assert provable.refusal("Deny", asked.name, GATEWAY) == "APPROVER_NOT_ALLOWED"


def test_a_policy_whose_approvers_match_a_gateway_does_not_load(provable: Provable) -> None:
    provable.policy_file.write_text(POLICY.replace("user/*", "ns/chat/sa/*"), encoding="utf-8")
    try:
        status = provable.administer("GetPolicyStatus", admin.GetPolicyStatusRequest(), by=VIEWER)
        with pytest.raises(Exception, match="brings the evidence of others and may approve as well"):
            provable.administer("ReloadPolicy", admin.ReloadPolicyRequest())
        after = provable.administer("GetPolicyStatus", admin.GetPolicyStatusRequest(), by=VIEWER)
        assert after.current.digest == status.current.digest
    finally:
        provable.policy_file.write_text(POLICY, encoding="utf-8")


def test_everything_is_there_after_kill_9_and_the_chain_holds(provable: Provable) -> None:
    asked = provable.ask(PAYOUT)
    provable.answer("Approve", asked.name, ALICE, id_token=provable.signed_in(asked))
    provable.issuer.signal(signal.SIGKILL)
    provable.issuer.wait()
    provable.issuer.start()
    again = provable.signed_in(asked)
    assert provable.refusal("Approve", asked.name, ADMIN_ALICE, id_token=again) == "APPROVER_NOT_ALLOWED"
    provable.answer("Approve", asked.name, BOB, id_token=provable.signed_in(asked, BOB))
    assert provable.outcome(PAYOUT) == "OK"
    reader = LedgerReader.sqlite(provable.settings.folder / "ledger/ledger.sqlite3")
    assert verify_ledger(reader).faults == ()


def test_an_oidc_issuer_that_is_away_is_told_and_nothing_is_approved(tmp_path: Path) -> None:
    with key_server() as server:
        deployment = Provable(tmp_path, server)
    with deployment:
        asked = deployment.ask(REFUND)
        token = deployment.signed_in(asked)
        assert deployment.refusal("Approve", asked.name, ALICE, id_token=token) == "OIDC_ISSUER_UNAVAILABLE"
        assert deployment.state(asked.name) == "PENDING"


def test_the_command_shows_the_nonce_and_takes_the_token_from_a_file(
    provable: Provable, asked: pb.ApprovalRequest, tmp_path: Path
) -> None:
    assert asked.name in command(provable, "list").stdout
    card = command(provable, "show", asked.name).stdout
    assert f"nonce     {asked.evidence_nonce} (sign in with it; approve with --id-token-file)\n" in card
    assert "ledger.refund: risk critical, approved by 0 of 1 persons, each with an ID token\n" in card
    refused = command(provable, "approve", asked.name, "--yes")
    assert (refused.returncode, "EVIDENCE_REQUIRED" in refused.stderr) == (1, True)
    file = tmp_path / "token.jwt"
    file.write_text(provable.signed_in(asked, acr="phr") + "\n", encoding="ascii")
    approved = command(provable, "approve", asked.name, "--yes", "--id-token-file", str(file))
    assert f"a person, says {provable.oidc}: signed in at " in approved.stdout
    assert ", acr phr\n" in approved.stdout
    shown = json.loads(command(provable, "show", asked.name, "--output", "json").stdout)
    assert shown["needs"][0]["human"] is True
    assert shown["given"][0]["evidence"]["token_sha256"]


@pytest.mark.parametrize("content", [None, b"", b"\xff" * 40, b"x" * 20_000])
def test_the_command_refuses_a_file_without_a_token_and_shows_none_of_it(
    provable: Provable, asked: pb.ApprovalRequest, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "token.jwt"
    if content is not None:
        file.write_bytes(content)
    ended = command(provable, "approve", asked.name, "--yes", "--id-token-file", str(file))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "xxxx" not in ended.stderr


def command(provable: Provable, *arguments: str) -> subprocess.CompletedProcess[str]:
    workload = provable.authority.workload(ALICE)
    ended = subprocess.run(
        [sys.executable, "-m", "issuer", "approvals", *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"SPIFFE_ENDPOINT_SOCKET": workload.socket, "SPIFFE_ISSUER_ADDRESS": provable.issuer.address},
        timeout=90,
    )
    assert "Traceback" not in ended.stderr
    return ended
