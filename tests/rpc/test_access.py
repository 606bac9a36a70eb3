"""Access just in time against a real issuer: what it gives, what ends it, and everything that must not come of it."""

from __future__ import annotations

import json
import signal
from base64 import urlsafe_b64decode
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support.accessible import FIX, POLICY, SERVER, Accessible, why_not
from support.approving import BOB, FEEDER, OPERATOR, VIEWER
from support.deployment import DEADLINE, LEDGER, READER, SETTLER
from support.ledgers import rows

from issuer.accessing import MAX_OPEN
from issuer.ledger.reading import LedgerReader
from issuer.ledger.verification import verify_ledger
from issuer_api.v1 import access_service_pb2 as pb
from issuer_api.v1 import admin_service_pb2 as admin
from issuer_api.v1 import issuer_service_pb2 as issuer_pb
from issuer_testing.deadline import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHANGE = issuer_pb.Intent(ticket="CHG-7")
SOON = 20.0
"""Seconds in which a window ends by itself, on a busy machine; what is promised is one or two."""


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[Accessible]:
    with Accessible(tmp_path) as deployment:
        deployment.tell_risk(1)
        yield deployment


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "issuer" / "ledger" / "ledger.sqlite3"


def claims(token: issuer_pb.IssueTokenResponse) -> dict[str, Any]:
    payload = token.token.split(".")[1]
    said: dict[str, Any] = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return said


def ends(issuer: Accessible, name: str, *, token: str = "") -> tuple[str, str]:
    """Wait until a window, and a token of it, is over without anyone acting, and return how."""
    wait_until(
        lambda: issuer.stands(name)[0] != "OPEN" and not (token and issuer.is_active(token)),
        what=f"{name} has ended",
        seconds=SOON,
    )
    return issuer.stands(name)


class TestAWindow:
    def test_gives_tokens_that_name_it_until_it_is_completed(self, issuer: Accessible) -> None:
        assert issuer.refused("", "ledger.fix") == "GRANT_TYPE_NOT_ALLOWED"
        window = issuer.start(seconds=600)
        assert (window.state, window.caller, list(window.scopes)) == (pb.AccessWindow.STATE_OPEN, SETTLER, list(FIX))
        assert window.window_end_time.seconds - window.create_time.seconds == 600
        token = issuer.under(window)
        assert claims(token)["grant_id"] == window.name.rpartition("/")[2]
        assert claims(token)["sub"] == claims(token)["client_id"] == SETTLER
        assert issuer.is_active(token.token)
        completed = issuer.complete(window.name)
        assert completed.state == pb.AccessWindow.STATE_COMPLETED
        assert not issuer.is_active(token.token), "dead when CompleteAccess has returned"
        assert issuer.refused(window) == "ACCESS_ENDED"
        assert issuer.complete(window.name) == completed, "completing it again changes nothing"

    def test_needs_a_reason(self, issuer: Accessible) -> None:
        for reason in ("", "  ", "x" * 513, "a\nb"):
            assert why_not(issuer.start, reason=reason) == "REQUEST_INVALID"

    def test_lasts_no_longer_than_policy_lets(self, issuer: Accessible) -> None:
        for seconds in (7_200, None):
            window = issuer.start(seconds=seconds)
            assert window.window_end_time.seconds - window.create_time.seconds == 1_800
        assert why_not(issuer.start, seconds=1) == "REQUEST_INVALID"
        assert why_not(issuer.start, seconds=-1) == "REQUEST_INVALID"

    def test_no_token_outlives_it(self, issuer: Accessible) -> None:
        window = issuer.start(seconds=30)
        token = issuer.under(window)
        assert token.expire_time.seconds <= window.window_end_time.seconds

    def test_is_over_for_tokens_that_would_be_too_short(self, tmp_path: Path) -> None:
        with Accessible(tmp_path, POLICY.replace("version: 1\n", "version: 1\nmin_ttl: 1m\n")) as issuer:
            issuer.tell_risk(1)
            window = issuer.start(seconds=60)
            wait_until(lambda: issuer.refused(window) == "ORIGIN_EXPIRES_SOON", what="no token fits", seconds=SOON)

    def test_ends_by_time_and_that_is_written(self, tmp_path: Path, ledger: Path) -> None:
        with Accessible(tmp_path, POLICY.replace("version: 1\n", "version: 1\nmin_ttl: 1s\n")) as issuer:
            issuer.tell_risk(1)
            window = issuer.start(seconds=5)
            token = issuer.under(window)
            assert ends(issuer, window.name, token=token.token) == ("EXPIRED", "")
            assert issuer.refused(window) == "ACCESS_ENDED"
            query = "SELECT COUNT(*) FROM event WHERE kind = 'access_ended'"
            wait_until(lambda: rows(ledger, query) == [(1,)], what="the end is written", seconds=SOON)
        assert rows(ledger, "SELECT COUNT(*) FROM revocation") == [(0,)]

    def test_gives_no_scope_audience_application_or_intent_that_it_has_not(self, issuer: Accessible) -> None:
        window = issuer.start("ledger.read")
        assert issuer.refused(window, "ledger.fix") == "SCOPE_NOT_ALLOWED"
        for fields in (
            {"audience": "https://other"},
            {"application": "other"},
            {"intent": CHANGE},
            {"access": "accessWindows/"},
            {"access": "approvalRequests/x"},
        ):
            assert issuer.refused(window, **fields) == "REQUEST_INVALID", fields
        assert issuer.refused("accessWindows/0199e2b4-6f1a-7cc1-9d3e-6a1f0d6c9b55") == "ACCESS_UNKNOWN"

    def test_of_a_batch_each_item_has_its_own(self, issuer: Accessible) -> None:
        first, second = issuer.start(), issuer.start()
        issuer.complete(second.name)
        items = [
            issuer_pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.read"], access=name)
            for name in (first.name, second.name, "")
        ]
        with issuer.stub() as stub:
            batch = issuer_pb.BatchIssueTokensRequest(requests=items)
            results = stub.BatchIssueTokens(batch, timeout=DEADLINE).results
        assert [result.HasField("error") for result in results] == [False, True, True]

    def test_that_is_only_asked_about_gives_no_token(self, issuer: Accessible) -> None:
        window = issuer.start()
        assert issuer.under(window, validate_only=True).token == ""

    def test_binds_its_tokens_where_the_caller_wants_that(self, issuer: Accessible) -> None:
        window = issuer.start(proof_binding=issuer_pb.PROOF_BINDING_TLS_CERTIFICATE)
        assert window.bind_certificate
        assert "cnf" in claims(issuer.under(window))


class TestAnother:
    def test_does_not_see_use_complete_or_end_it(self, issuer: Accessible) -> None:
        window = issuer.start()
        assert issuer.refused(window, by=READER) == "ACCESS_UNKNOWN"
        assert why_not(issuer.complete, window.name, READER) == "ACCESS_UNKNOWN"
        assert why_not(issuer.window, window.name, READER) == "ACCESS_UNKNOWN"
        for caller in (SETTLER, READER, VIEWER):
            assert why_not(issuer.end, window.name, by=caller) == "RPC_NOT_ALLOWED"
        assert issuer.stands(window.name)[0] == "OPEN"

    def test_sees_everybodys_only_with_the_role(self, issuer: Accessible) -> None:
        mine, other = issuer.start(), issuer.start(by=READER)
        issuer.complete(mine.name)
        everyone = pb.ListAccessWindowsRequest(view=pb.ListAccessWindowsRequest.VIEW_ALL)
        with issuer.accesses() as stub:
            listed = stub.ListAccessWindows(pb.ListAccessWindowsRequest(), timeout=DEADLINE).access_windows
            assert [each.name for each in listed] == [mine.name]
            assert why_not(stub.ListAccessWindows, everyone, timeout=DEADLINE) == "RPC_NOT_ALLOWED"
        with issuer.accesses(VIEWER) as stub:
            listed = stub.ListAccessWindows(everyone, timeout=DEADLINE).access_windows
            assert {each.name for each in listed} == {mine.name, other.name}
            everyone.open_only, everyone.page_size = True, 1
            listed = stub.ListAccessWindows(everyone, timeout=DEADLINE).access_windows
            assert [each.name for each in listed] == [other.name]
            everyone.page_size = 201
            assert why_not(stub.ListAccessWindows, everyone, timeout=DEADLINE) == "REQUEST_INVALID"

    def test_pages_go_back_in_time(self, issuer: Accessible) -> None:
        started = {issuer.start().name for _ in range(3)}
        request, listed = pb.ListAccessWindowsRequest(page_size=2), list[str]()
        with issuer.accesses() as stub:
            while True:
                page = stub.ListAccessWindows(request, timeout=DEADLINE)
                listed += [each.name for each in page.access_windows]
                request.page_token = page.next_page_token
                if not request.page_token:
                    break
        assert listed == sorted(started, reverse=True)

    def test_ends_it_as_an_operator_and_says_why(self, issuer: Accessible) -> None:
        window = issuer.start()
        token = issuer.under(window)
        assert why_not(issuer.end, window.name, "") == "REQUEST_INVALID"
        ended = issuer.end(window.name, "the incident is over")
        assert (ended.state, ended.ended_by, ended.ended_reason) == (
            pb.AccessWindow.STATE_ENDED, OPERATOR, "the incident is over",
        )  # fmt: skip
        assert not issuer.is_active(token.token)
        assert issuer.refused(window) == "ACCESS_ENDED"


class TestWithoutAnyoneActing:
    def test_a_risk_that_rises_ends_it_and_its_tokens(self, issuer: Accessible) -> None:
        window, other = issuer.start(), issuer.start(by=READER)
        token = issuer.under(window)
        issuer.tell_risk(95)
        assert ends(issuer, window.name, token=token.token) == ("REFUSED", "AUDIENCE_NOT_ALLOWED")
        assert issuer.window(window.name, OPERATOR).ended_rules == ["risky"]
        assert issuer.stands(other.name)[0] == "OPEN"
        issuer.tell_risk(1)
        assert issuer.refused(window) == "ACCESS_ENDED", "what ended does not come back"

    def test_a_ticket_that_turns_false_ends_it(self, issuer: Accessible) -> None:
        assert why_not(issuer.start, "ledger.change", intent=CHANGE) == "FACT_MISSING"
        issuer.tell_change(approved=True)
        window = issuer.start("ledger.change", intent=CHANGE)
        token = issuer.under(window, "ledger.change")
        assert issuer.refused(window, "ledger.change", intent=CHANGE) == "OK"
        issuer.tell_change(approved=False)
        assert ends(issuer, window.name, token=token.token) == ("REFUSED", "CONDITION_NOT_MET")

    def test_a_ticket_that_expires_ends_it(self, issuer: Accessible) -> None:
        issuer.tell_change(approved=True, until=datetime.now(UTC) + timedelta(seconds=5))
        window = issuer.start("ledger.change", intent=CHANGE)
        token = issuer.under(window, "ledger.change")
        assert ends(issuer, window.name, token=token.token) == ("REFUSED", "FACT_MISSING")

    def test_a_policy_that_does_not_give_it_any_more_ends_it(self, issuer: Accessible) -> None:
        window = issuer.start()
        token = issuer.under(window)
        issuer.policy_file.write_text(POLICY.replace("[ledger.read, ledger.fix]", "[ledger.read]"), encoding="utf-8")
        issuer.administer("ReloadPolicy", admin.ReloadPolicyRequest())
        assert ends(issuer, window.name, token=token.token) == ("REFUSED", "SCOPE_NOT_ALLOWED")

    @pytest.mark.parametrize(
        "selector",
        [{"workload": "spiffe://dev.test/ns/payments/**"}, {"audience": LEDGER}, {"rule": "incident"}, {"basis": ""}],
        ids=lambda selector: next(iter(selector)),
    )
    def test_a_revocation_ends_it_and_lifting_that_does_not_bring_it_back(
        self, issuer: Accessible, selector: dict[str, str]
    ) -> None:
        window = issuer.start()
        token = issuer.under(window)
        if "basis" in selector:
            selector = {"basis": f"access/{window.name.rpartition('/')[2]}"}
        request = admin.RevokeRequest(selector=admin.TokenSelector(**selector), reason="a leak")  # type: ignore[arg-type]
        made = issuer.administer("Revoke", request).revocation
        assert not issuer.is_active(token.token)
        assert made.tokens_hit == 1
        assert ends(issuer, window.name) == ("REVOKED", "REVOKED")
        assert list(issuer.window(window.name, OPERATOR).ended_rules) == [made.revocation_id]
        issuer.administer("LiftRevocation", admin.LiftRevocationRequest(revocation_id=made.revocation_id))
        assert issuer.refused(window) == "ACCESS_ENDED"
        assert issuer.refused(issuer.start()) == "OK", "a new one is as good as ever"

    def test_an_svid_that_is_not_renewed_ends_it_and_one_that_is_does_not(self, tmp_path: Path) -> None:
        with Accessible(tmp_path, POLICY.replace("version: 1\n", "version: 1\nmin_ttl: 1s\n")) as issuer:
            issuer.tell_risk(1)
            soon = datetime.now(UTC) + timedelta(seconds=8)
            with issuer.accesses(SETTLER, not_after=soon) as stub:
                request = pb.StartAccessRequest(audience=LEDGER, scopes=["ledger.read"], reason="x")
                forgotten, renewed = (stub.StartAccess(request, timeout=DEADLINE).access_window for _ in range(2))
            assert forgotten.expire_time.seconds <= soon.timestamp() < forgotten.window_end_time.seconds
            issuer.under(renewed)  # with a newer SVID
            assert issuer.window(renewed.name).expire_time == renewed.window_end_time
            assert ends(issuer, forgotten.name) == ("SVID_EXPIRED", "")
            assert issuer.refused(forgotten) == "ACCESS_ENDED"
            assert issuer.refused(renewed) == "OK"


class TestApproved:
    def test_one_approval_is_one_window_and_all_its_tokens(self, issuer: Accessible) -> None:
        def start(**fields: Any) -> pb.AccessWindow:
            return issuer.start("ledger.refund", seconds=600, **fields)

        assert why_not(start) == "APPROVAL_REQUIRED"
        assert why_not(start, request_approval=True) == "APPROVAL_REQUIRED"
        with issuer.approvals(SETTLER) as stub:
            from issuer_api.v1 import approval_service_pb2 as approval  # noqa: PLC0415

            [asked] = stub.ListApprovalRequests(
                approval.ListApprovalRequestsRequest(), timeout=DEADLINE
            ).approval_requests
        assert (asked.reason, asked.grant_type, asked.lifetime.seconds) == ("incident 7", "jit", 600)
        issuer.answer("Approve", asked.name, BOB)
        assert why_not(issuer.start, "ledger.refund", seconds=601) == "APPROVAL_REQUIRED", "longer was not approved"
        window = start()
        assert window.approval_request == asked.name
        assert issuer.state(asked.name) == "USED_UP"
        tokens = [issuer.under(window, "ledger.refund") for _ in range(2)]
        assert {token.approval_request for token in tokens} == {""}, "they use none up, and are renewed like others"
        assert why_not(start) == "APPROVAL_REQUIRED"
        request = admin.RevokeRequest(reason="x")
        request.selector.basis = f"approval/{asked.name.rpartition('/')[2]}"
        issuer.administer("Revoke", request)
        assert not any(issuer.is_active(token.token) for token in tokens)
        assert ends(issuer, window.name)[0] == "REVOKED"


class TestAgainAndAtOnce:
    def test_the_same_call_again_is_the_same_window(self, issuer: Accessible) -> None:
        first = issuer.start(request_id="call-7")
        assert issuer.start(request_id="call-7").name == first.name
        assert issuer.start(request_id="call-7", by=READER).name != first.name
        assert why_not(issuer.start, request_id="call-7", reason="another") == "REQUEST_INVALID"
        assert why_not(issuer.start, request_id="x" * 129) == "REQUEST_INVALID"
        issuer.complete(first.name)
        assert issuer.start(request_id="call-7").state == pb.AccessWindow.STATE_COMPLETED

    def test_of_the_same_call_at_once_one_window_is_opened(self, issuer: Accessible, ledger: Path) -> None:
        with ThreadPoolExecutor(8) as pool:
            names = {each.name for each in pool.map(lambda _: issuer.start(request_id="call-7"), range(8))}
        assert len(names) == 1
        assert rows(ledger, "SELECT COUNT(*) FROM event WHERE kind = 'access_started'") == [(1,)]

    def test_two_windows_of_one_caller_end_apart(self, issuer: Accessible) -> None:
        first, second = issuer.start(), issuer.start()
        tokens = issuer.under(first), issuer.under(second)
        issuer.complete(first.name)
        assert [issuer.is_active(token.token) for token in tokens] == [False, True]
        assert issuer.refused(second) == "OK"

    def test_a_caller_has_a_bounded_number_of_them_however_fast_it_asks(self, issuer: Accessible) -> None:
        with ThreadPoolExecutor(8) as pool:
            outcomes = list(pool.map(lambda _: why_not(issuer.start), range(MAX_OPEN + 8)))
        assert outcomes.count("OK") == MAX_OPEN
        assert set(outcomes) == {"OK", "TOO_MANY_WINDOWS"}
        assert why_not(issuer.start, by=READER) == "OK"
        with issuer.accesses() as stub:
            listed = stub.ListAccessWindows(pb.ListAccessWindowsRequest(), timeout=DEADLINE).access_windows
        issuer.complete(listed[0].name)
        assert why_not(issuer.start) == "OK"

    def test_of_ends_at_once_one_is_written(self, issuer: Accessible, ledger: Path) -> None:
        window = issuer.start()

        def end(number: int) -> str:
            return why_not(issuer.end, window.name) if number % 2 else why_not(issuer.complete, window.name)

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(end, range(8))) == {"OK"}
        assert rows(ledger, "SELECT COUNT(*) FROM event WHERE kind = 'access_ended'") == [(1,)]
        assert rows(ledger, "SELECT COUNT(*) FROM revocation") == [(1,)]

    def test_no_token_is_alive_that_was_issued_while_it_ended(self, issuer: Accessible) -> None:
        window = issuer.start()
        issued: list[str] = []

        def ask(_: int) -> str:
            reason = "OK"
            while reason == "OK":
                reason = why_not(lambda: issued.append(issuer.under(window).token))
            return reason

        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(ask, number) for number in range(4)]
            wait_until(lambda: len(issued) >= 8, what="tokens are issued", seconds=SOON)
            issuer.complete(window.name)
            assert {each.result() for each in asking} <= {"ACCESS_ENDED", "REVOKED"}
        assert not any(issuer.is_active(token) for token in issued)


class TestAfterARestart:
    def test_open_windows_stay_open_and_ended_ones_ended(self, issuer: Accessible) -> None:
        open_, ended = issuer.start(request_id="call-7"), issuer.start()
        tokens = issuer.under(open_), issuer.under(ended)
        issuer.complete(ended.name)
        issuer.issuer.signal(signal.SIGKILL)
        issuer.issuer.wait()
        issuer.issuer.start()
        issuer.tell_risk(1)
        assert [issuer.stands(each.name)[0] for each in (open_, ended)] == ["OPEN", "COMPLETED"]
        assert [issuer.is_active(token.token) for token in tokens] == [True, False]
        assert issuer.start(request_id="call-7").name == open_.name
        assert [issuer.refused(each) for each in (open_, ended)] == ["OK", "ACCESS_ENDED"]

    def test_a_window_whose_facts_are_not_told_again_yet_is_waited_for(self, issuer: Accessible) -> None:
        issuer.tell_change(approved=True)
        window = issuer.start("ledger.change", intent=CHANGE)
        issuer.issuer.signal(signal.SIGKILL)
        issuer.issuer.wait()
        issuer.issuer.start()
        assert issuer.refused(window, "ledger.change") == "FACT_MISSING", "and nothing is issued meanwhile"
        assert issuer.stands(window.name)[0] == "OPEN"
        issuer.tell_risk(1)
        issuer.tell_change(approved=True)
        assert issuer.refused(window, "ledger.change") == "OK"
        issuer.tell_change(approved=False)
        assert ends(issuer, window.name) == ("REFUSED", "CONDITION_NOT_MET")

    def test_its_life_is_chained_and_verifies(self, issuer: Accessible, ledger: Path) -> None:
        window = issuer.start(request_id="call-7")
        token = issuer.under(window)
        issuer.complete(window.name)
        issuer.complete(issuer.start().name)
        kinds = rows(ledger, "SELECT kind FROM event WHERE kind LIKE 'access%' ORDER BY seq")
        assert [kind for (kind,) in kinds] == ["access_started", "access_ended"] * 2
        found = verify_ledger(LedgerReader.sqlite(ledger))
        assert not found.faults, found.faults
        decision = issuer.administer("GetDecision", admin.GetDecisionRequest(name=token.token_id)).decisions[0]
        assert json.loads(decision.origin)["id"] == window.name.rpartition("/")[2]


def test_a_feeder_and_a_server_have_no_windows(issuer: Accessible) -> None:
    for caller in (FEEDER, SERVER):
        assert why_not(issuer.start, by=caller) == "AUDIENCE_NOT_ALLOWED"
