"""Revoking on a real server: what stops, what goes on, what holds after a crash, and what is refused."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from support.deployment import DEADLINE, LEDGER, READER, REQUEST, SETTLER, info_of, reason_of
from support.eventually import eventually
from support.ledgers import rows
from support.processes import writer_of
from support.revocations import OPERATOR, VIEWER, Revocable

from issuer.ledger.reading import LedgerReader
from issuer.ledger.verification import verify_ledger
from issuer_api.v1 import admin_service_pb2 as admin
from issuer_api.v1 import issuer_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CALLERS = 8


@pytest.fixture
def revocable(tmp_path: Path) -> Iterator[Revocable]:
    with Revocable(tmp_path) as deployment:
        yield deployment


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "issuer" / "ledger" / "ledger.sqlite3"


def refusal(call: Any, *arguments: Any, **fields: Any) -> str:
    with pytest.raises(grpc.RpcError) as refused:
        call(*arguments, **fields)
    return reason_of(refused.value)


def timestamp(moment: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(moment)
    return message


def test_a_revoked_workload_gets_no_token_until_it_is_lifted_and_others_do(revocable: Revocable) -> None:
    token = revocable.issued()
    answer = revocable.revoke(workload="spiffe://dev.test/ns/payments/**")
    made = answer.revocation
    assert (made.tokens_hit, made.identities_hit, made.stops_issuance) == (1, 1, True)
    assert [(hit.token_id, hit.caller) for hit in answer.tokens] == [(token.token_id, SETTLER)]
    assert [(each.caller, each.tokens) for each in answer.identities] == [(SETTLER, 1)]
    assert (revocable.outcome(), revocable.outcome(READER)) == ("REVOKED", "OK")
    lifted = revocable.lift(made.revocation_id)
    assert lifted.lifted_by == OPERATOR
    assert revocable.lift(made.revocation_id) == lifted, "lifting it again changes nothing"
    assert revocable.outcome() == "OK"


def test_a_denial_names_its_decision_and_nothing_of_the_revocation(revocable: Revocable, ledger: Path) -> None:
    made = revocable.revoke(reason="the operator's secret reason", audience=LEDGER).revocation
    with revocable.stub() as stub, pytest.raises(grpc.RpcError) as denied:
        stub.IssueToken(REQUEST, timeout=DEADLINE)
    info = info_of(denied.value)
    assert info.reason == "REVOKED"
    assert set(info.metadata) == {"requestId", "decisionId"}
    assert "secret reason" not in str(denied.value.details())
    [found] = LedgerReader.sqlite(ledger).find(info.metadata["decisionId"])
    assert (found.record.reason, found.record.rules) == ("REVOKED", made.revocation_id)


def test_list_access_and_validation_know_it_too(revocable: Revocable) -> None:
    revocable.revoke(rule="settlement")
    with revocable.stub() as stub:
        assert not stub.ListAccess(pb.ListAccessRequest(), timeout=DEADLINE).accesses
        only_asking = pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.read"], validate_only=True)
        assert refusal(stub.IssueToken, only_asking, timeout=DEADLINE) == "REVOKED"
        batch = stub.BatchIssueTokens(pb.BatchIssueTokensRequest(requests=[REQUEST]), timeout=DEADLINE)
    assert "revoked" in batch.results[0].error.message


def test_a_dry_run_tells_what_would_be_hit_and_changes_nothing(revocable: Revocable, ledger: Path) -> None:
    for _ in range(3):
        revocable.issued()
    revocable.issued(READER)
    answer = revocable.revoke(everything=True, dry_run=True)
    assert (answer.revocation.revocation_id, answer.revocation.tokens_hit, answer.revocation.identities_hit) == (
        "",
        4,
        2,
    )
    assert [(each.caller, each.tokens) for each in answer.identities] == [(SETTLER, 3), (READER, 1)]
    assert revocable.outcome() == "OK"
    assert rows(ledger, "SELECT COUNT(*) FROM revocation") == [(0,)]


def test_a_stop_ends_by_itself(revocable: Revocable) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=2)
    revocable.revoke(application="payments", stop_until=timestamp(soon))
    assert revocable.outcome() == "REVOKED"
    assert eventually(lambda: revocable.outcome() == "OK")
    assert datetime.now(UTC) >= soon


def test_the_same_request_again_is_the_same_revocation(revocable: Revocable, ledger: Path) -> None:
    first = revocable.revoke(audience=LEDGER, request_id="INC-7")
    again = revocable.revoke(audience=LEDGER, request_id="INC-7")
    assert again.revocation.revocation_id == first.revocation.revocation_id
    assert refusal(revocable.revoke, audience="https://another", request_id="INC-7") == "REQUEST_INVALID"
    assert rows(ledger, "SELECT COUNT(*) FROM revocation") == [(1,)]


def test_of_the_same_request_at_once_one_takes_effect(revocable: Revocable, ledger: Path) -> None:
    found: list[str] = []

    def revoke() -> None:
        found.append(revocable.revoke(audience=LEDGER, request_id="INC-7").revocation.revocation_id)

    threads = [Thread(target=revoke) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert rows(ledger, "SELECT COUNT(*) FROM revocation") == [(1,)]


def test_pages_go_back_in_time(revocable: Revocable) -> None:
    ids = [revocable.revoke(audience=f"https://{number}").revocation.revocation_id for number in range(5)]
    revocable.lift(ids[0])
    listed: list[str] = []
    page = admin.ListRevocationsRequest(page_size=2)
    with revocable.administer(VIEWER) as stub:
        while True:
            answer = stub.ListRevocations(page, timeout=DEADLINE)
            listed += [each.revocation_id for each in answer.revocations]
            page.page_token = answer.next_page_token
            if not page.page_token:
                break
        stopping = stub.ListRevocations(admin.ListRevocationsRequest(stopping=True), timeout=DEADLINE)
        bad = admin.ListRevocationsRequest(page_token="x")
        assert refusal(stub.ListRevocations, bad, timeout=DEADLINE) == "REQUEST_INVALID"
        bad = admin.ListRevocationsRequest(page_size=1_001)
        assert refusal(stub.ListRevocations, bad, timeout=DEADLINE) == "REQUEST_INVALID"
    assert sorted(listed, reverse=True) == listed == sorted(ids, reverse=True)
    assert [each.revocation_id for each in stopping.revocations] == listed[:-1]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"audience": ""},
        {"everything": True, "audience": LEDGER},
        {"workload": "spiffe://*/x"},
        {"token_id": "unknown"},
        {"audience": "x" * 2_049},
        {"audience": LEDGER, "reason": ""},
        {"audience": LEDGER, "request_id": "x" * 129},
        {"audience": LEDGER, "stop_until": Timestamp(seconds=1)},
        {"audience": LEDGER, "issued_until": Timestamp(seconds=10**15)},
        {"key_id": "k", "stops_issuance": False},
    ],
)
def test_what_means_nothing_is_refused_and_stops_nothing(revocable: Revocable, fields: dict[str, Any]) -> None:
    assert refusal(revocable.revoke, **fields) == "REQUEST_INVALID"
    assert revocable.outcome() == "OK"


def test_what_cannot_be_lifted_is_not(revocable: Revocable) -> None:
    assert refusal(revocable.lift, "unknown") == "REVOCATION_UNKNOWN"
    stopless = revocable.revoke(audience=LEDGER, stops_issuance=False).revocation
    assert refusal(revocable.lift, stopless.revocation_id) == "REVOCATION_FINAL"


def test_a_revoked_key_signs_nothing_more(revocable: Revocable) -> None:
    with revocable.stub() as stub:
        jwks = stub.GetKeySet(pb.GetKeySetRequest(), timeout=DEADLINE).jwks
    key_id = jwks.partition('"kid":"')[2].partition('"')[0]
    made = revocable.revoke(key_id=key_id).revocation
    assert revocable.outcome() == "REVOKED"
    assert refusal(revocable.lift, made.revocation_id) == "REVOCATION_FINAL"


def test_what_was_revoked_is_revoked_after_kill_9(revocable: Revocable, ledger: Path) -> None:
    """What an answered revocation, or an answered lift, said holds whenever issuer or ledger process die."""
    for number in range(6):
        made = revocable.revoke(workload=SETTLER).revocation
        if number % 2:
            os.kill(writer_of(revocable.issuer.pid), signal.SIGKILL)
            assert eventually(lambda: revocable.outcome() == "REVOKED")
        else:
            revocable.issuer.signal(signal.SIGKILL)
            revocable.issuer.wait()
            revocable.issuer.start()
        assert revocable.outcome() == "REVOKED"
        revocable.lift(made.revocation_id)
        if number % 2:
            revocable.issuer.signal(signal.SIGKILL)
            revocable.issuer.wait()
            revocable.issuer.start()
        assert revocable.outcome() == "OK"
    assert verify_ledger(LedgerReader.sqlite(ledger)).faults == ()


def test_under_load_nothing_issued_after_revoke_returned_is_alive(revocable: Revocable, ledger: Path) -> None:
    """Callers in their own threads ask without pause. By the clock of who revoked, and by the ledger's order."""
    received: list[str] = []
    denied: list[str] = []
    enough = Event()

    def keep_asking() -> None:
        with revocable.stub() as stub:
            while not enough.is_set():
                try:
                    received.append(stub.IssueToken(REQUEST, timeout=5).token_id)
                except grpc.RpcError as error:
                    denied.append(reason_of(error))

    threads = [Thread(target=keep_asking) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        seen = len(received)
        eventually(lambda seen=seen: len(received) > seen + 20)  # type: ignore[misc]
        made = revocable.revoke(workload=SETTLER).revocation
        refused = len(denied)
        eventually(lambda refused=refused: len(denied) > refused + 5 * CALLERS)  # type: ignore[misc]
        after = len(received)
        eventually(lambda refused=refused: len(denied) > refused + 10 * CALLERS)  # type: ignore[misc]
        assert len(received) == after, "nobody received a token while it was stopped"
        revocable.lift(made.revocation_id)
    enough.set()
    for thread in threads:
        thread.join()
    assert set(denied) == {"REVOKED"}
    changes = [
        place for (place,) in rows(ledger, "SELECT position FROM event WHERE kind LIKE 'revocation%' ORDER BY 1")
    ]
    tokens = [place for (place,) in rows(ledger, "SELECT position FROM decision WHERE token_id IS NOT NULL")]
    stops = list(zip(changes[::2], changes[1::2], strict=True))
    assert len(stops) == 3
    assert not [place for made, lifted in stops for place in tokens if made < place < lifted], "none inside a stop"
