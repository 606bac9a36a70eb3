"""Recorded decisions by AdminService on a real server: who may read them, pages, streams, and what ends a stream."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from support.deployment import DEADLINE, LEDGER, READER, REQUEST, SETTLER, Deployment, reason_of
from support.eventually import eventually

from issuer.core.record import Outcome
from issuer.rpc.decision_methods import MAX_WATCHES
from issuer_api.v1 import admin_service_pb2 as admin
from issuer_api.v1 import admin_service_pb2_grpc as admin_grpc
from issuer_api.v1 import issuer_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VIEWER = "spiffe://dev.test/admin/viewer"


class Watched(Deployment):
    @contextmanager
    def administer(self, spiffe_id: str = VIEWER, **svid: Any) -> Iterator[admin_grpc.AdminServiceStub]:
        with self.channel(self.svid(spiffe_id, **svid)) as channel:
            yield admin_grpc.AdminServiceStub(channel)

    def issue(self, times: int = 1) -> list[str]:
        with self.stub() as stub:
            return [stub.IssueToken(REQUEST, timeout=DEADLINE).token_id for _ in range(times)]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder: Path = tmp_path_factory.mktemp("issuer")
    with Watched(folder, options={"admin": {"viewers": [VIEWER]}}) as running:
        yield running


def test_who_is_no_viewer_reads_nothing(deployment: Watched) -> None:
    with deployment.administer(SETTLER) as stub:
        asked = (
            lambda: stub.ListDecisions(admin.ListDecisionsRequest(), timeout=DEADLINE),
            lambda: stub.GetDecision(admin.GetDecisionRequest(name="x"), timeout=DEADLINE),
            lambda: next(stub.WatchDecisions(admin.WatchDecisionsRequest(), timeout=DEADLINE)),
        )
        for ask in asked:
            with pytest.raises(grpc.RpcError) as refused:
                ask()  # type: ignore[no-untyped-call]
            assert reason_of(refused.value) == "RPC_NOT_ALLOWED"


def test_pages_hold_everything_once_while_more_is_recorded(deployment: Watched) -> None:
    issued = deployment.issue(7)
    seen: list[str] = []
    with deployment.administer() as stub:
        token = ""
        while True:
            page = stub.ListDecisions(admin.ListDecisionsRequest(page_size=3, page_token=token), timeout=DEADLINE)
            seen += [each.token_id for each in page.decisions]
            deployment.issue()
            if not (token := page.next_page_token):
                break
    assert [token_id for token_id in seen if token_id in issued] == issued[::-1]
    assert len(seen) == len(set(seen))


def test_a_decision_is_found_whole_by_its_token_and_by_its_id(deployment: Watched) -> None:
    (token_id,) = deployment.issue()
    with deployment.administer() as stub:
        (found,) = stub.GetDecision(admin.GetDecisionRequest(name=token_id), timeout=DEADLINE).decisions
        (same,) = stub.GetDecision(admin.GetDecisionRequest(name=found.decision_id), timeout=DEADLINE).decisions
        assert not stub.GetDecision(admin.GetDecisionRequest(name="none"), timeout=DEADLINE).decisions
    assert found == same
    assert (found.caller, found.audience, list(found.scopes), list(found.rules)) == (
        SETTLER, LEDGER, ["ledger.read"], ["settlement"],
    )  # fmt: skip
    assert found.outcome == admin.DECISION_OUTCOME_GRANTED
    assert len(found.token_sha256) == 32


def test_outcomes_are_numbered_as_they_are_recorded() -> None:
    numbered = {name.removeprefix("DECISION_OUTCOME_"): number for name, number in admin.DecisionOutcome.items()}
    assert numbered == {"UNSPECIFIED": 0} | {outcome.name: outcome.value for outcome in Outcome}


def test_a_filter_says_which(deployment: Watched) -> None:
    with deployment.stub(deployment.svid(READER)) as stub, pytest.raises(grpc.RpcError):
        stub.IssueToken(pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.write"]), timeout=DEADLINE)
    wanted = admin.DecisionFilter(outcome=admin.DECISION_OUTCOME_DENIED, caller="spiffe://dev.test/ns/*/sa/reader")
    with deployment.administer() as stub:
        found = stub.ListDecisions(admin.ListDecisionsRequest(filter=wanted), timeout=DEADLINE).decisions
    assert {each.caller for each in found} == {READER}


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (admin.ListDecisionsRequest(page_size=1_001), "page_size"),
        (admin.ListDecisionsRequest(page_size=-1), "page_size"),
        (admin.ListDecisionsRequest(page_token="x"), "page_token"),
        (admin.ListDecisionsRequest(page_token="9" * 30), "page_token"),
        (admin.ListDecisionsRequest(filter=admin.DecisionFilter(caller="spiffe://dev.test/a*")), "filter.caller"),
        (admin.ListDecisionsRequest(filter=admin.DecisionFilter(outcome=9)), "filter.outcome"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_asked_is_told(deployment: Watched, message: admin.ListDecisionsRequest, field: str) -> None:
    with deployment.administer() as stub, pytest.raises(grpc.RpcError) as refused:
        stub.ListDecisions(message, timeout=DEADLINE)
    assert reason_of(refused.value) == "REQUEST_INVALID"
    assert field in str(refused.value.trailing_metadata())


def test_a_stream_tells_what_is_recorded_and_can_be_resumed(deployment: Watched) -> None:
    with deployment.administer() as stub:
        watching = stub.WatchDecisions(admin.WatchDecisionsRequest(after_seq=0), timeout=DEADLINE)
        first = next(watching).decision
        watching.cancel()
        issued = deployment.issue(3)
        resumed = stub.WatchDecisions(admin.WatchDecisionsRequest(after_seq=first.seq), timeout=DEADLINE)
        seqs, seen = [first.seq], []
        while issued[-1] not in seen:
            decision = next(resumed).decision
            seqs.append(decision.seq)
            seen.append(decision.token_id)
        resumed.cancel()
    assert seqs == list(range(1, seqs[-1] + 1)), "none is left out, none comes twice"


def test_a_stream_from_now_on_tells_the_next(deployment: Watched) -> None:
    with deployment.administer() as stub:
        watching = stub.WatchDecisions(admin.WatchDecisionsRequest(), timeout=DEADLINE)
        issued: list[str] = []
        told = Event()

        def issue_until_told() -> None:
            # From when on the stream tells cannot be seen from outside: what is issued before is not told.
            while not told.is_set():
                issued.extend(deployment.issue())

        with ThreadPoolExecutor(1) as pool:
            issuing = pool.submit(issue_until_told)
            try:
                first = next(watching).decision.token_id
            finally:
                told.set()
            issuing.result()
        assert first in issued
        watching.cancel()


def test_a_stream_ends_with_the_svid_of_its_caller(deployment: Watched) -> None:
    with deployment.administer(ttl=timedelta(seconds=3)) as stub:
        watching = stub.WatchDecisions(admin.WatchDecisionsRequest(), timeout=DEADLINE)
        with pytest.raises(grpc.RpcError) as ended:
            for _ in watching:
                pass
    assert reason_of(ended.value) == "SVID_EXPIRED"


def test_one_caller_holds_a_few_streams_and_no_more(deployment: Watched) -> None:
    with deployment.administer() as stub:
        held = [stub.WatchDecisions(admin.WatchDecisionsRequest(after_seq=0), timeout=60) for _ in range(MAX_WATCHES)]
        for each in held:
            next(each)
        with pytest.raises(grpc.RpcError) as refused:
            next(stub.WatchDecisions(admin.WatchDecisionsRequest(after_seq=0), timeout=DEADLINE))
        assert reason_of(refused.value) == "TOO_MANY_WATCHES"
        held.pop().cancel()

        def free() -> bool:
            try:
                return bool(next(stub.WatchDecisions(admin.WatchDecisionsRequest(after_seq=0), timeout=DEADLINE)))
            except grpc.RpcError as error:
                raise AssertionError(error) from None

        assert eventually(free)
        for each in held:
            each.cancel()


def test_a_stream_does_not_hold_up_the_end_of_the_issuer(tmp_path: Path) -> None:
    with Watched(tmp_path, options={"admin": {"viewers": [VIEWER]}}) as own, own.administer() as stub:
        own.issue()
        watching = stub.WatchDecisions(admin.WatchDecisionsRequest(after_seq=0), timeout=60)
        next(watching)
        own.issuer.stop()
        assert any(line["event"] == "stopped" for line in own.issuer.log())
        with pytest.raises(grpc.RpcError):
            next(watching)


def last_hour() -> admin.TimeRange:
    found = admin.TimeRange()
    found.since.FromDatetime(datetime.now(UTC) - timedelta(hours=1))
    return found


def test_reports_are_told_to_viewers(deployment: Watched) -> None:
    deployment.issue(2)
    with deployment.stub(deployment.svid(READER)) as stub, pytest.raises(grpc.RpcError):
        stub.IssueToken(REQUEST, timeout=DEADLINE)
    with deployment.administer() as stub:
        denials = stub.ListDenials(admin.ListDenialsRequest(range=last_hour()), timeout=DEADLINE).denials
        assert {(each.caller, each.audience) for each in denials} == {(READER, LEDGER)}
        assert all(each.changes and each.newest.caller == READER for each in denials)
        (right,) = stub.ListUnusedRights(admin.ListUnusedRightsRequest(range=last_hour()), timeout=DEADLINE).rights
        assert (right.grant, list(right.scopes), right.whole) == ("settlement", ["ledger.write"], False)
        top = stub.GetTop(admin.GetTopRequest(range=last_hour(), limit=1), timeout=DEADLINE)
        assert [each.name for each in top.callers] == [SETTLER]
        assert top.alive[0].requests >= 2
        shared = admin.ListSharedIdentitiesRequest(range=last_hour(), min_score=0.0)
        identities = stub.ListSharedIdentities(shared, timeout=DEADLINE).identities
        assert {(each.caller, each.score) for each in identities} == {(SETTLER, 0), (READER, 0)}
        asked = admin.ListExceptionUsesRequest(range=last_hour())
        assert not stub.ListExceptionUses(asked, timeout=DEADLINE).uses


@pytest.mark.parametrize(
    ("method", "message", "field"),
    [
        ("ListDenials", admin.ListDenialsRequest(), "range.since"),
        ("ListDenials", admin.ListDenialsRequest(range=last_hour(), limit=-1), "limit"),
        ("GetTop", admin.GetTopRequest(range=last_hour(), limit=1_001), "limit"),
        ("ListSharedIdentities", admin.ListSharedIdentitiesRequest(range=last_hour(), min_score=2), "min_score"),
    ],
)
def test_a_report_that_cannot_be_asked_for_is_told(
    deployment: Watched, method: str, message: object, field: str
) -> None:
    with deployment.administer() as stub, pytest.raises(grpc.RpcError) as refused:
        getattr(stub, method)(message, timeout=DEADLINE)
    assert reason_of(refused.value) == "REQUEST_INVALID"
    assert field in str(refused.value.trailing_metadata())
