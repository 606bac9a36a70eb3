"""The request path, with the real decision, minting and second check."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from random import SystemRandom
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from support.eventually import eventually_true
from support.ledgers import Observed, revoking, rows, sqlite_ledger

from issuer.core import claims
from issuer.core.approval_book import ApprovalBook
from issuer.core.base64url import base64url_decoded
from issuer.core.caller import Caller
from issuer.core.claims import TokenProfile
from issuer.core.claims_check import ClaimsMismatch
from issuer.core.errors import InvalidTokenRequest, PolicyDenied, RateLimited, Reason, TemporarilyUnavailable
from issuer.core.patterns import parse_pattern
from issuer.core.refusal_budget import COUNTED_TO_RECORDED, RefusalBudget
from issuer.core.revocation import Selector
from issuer.core.revocations import NOTHING_REVOKED
from issuer.core.spiffe_id import SpiffeId
from issuer.core.status_index import BlocksTaken, StatusIndex
from issuer.core.token_request import TokenRequest
from issuer.facts.book import Facts
from issuer.facts.store import FactStore
from issuer.issuance import MAX_TRIES, Asked, Issuance, IssuedToken, LogFields, TokenAsk, Wanted
from issuer.ledger.revocation_book import LedgerRevocations
from issuer.observing import Step
from issuer.policy_files.directory import load_policy
from issuer.ports import EpochMoved
from issuer.signing.es256 import Es256Signer
from issuer.status_entries import StatusEntries
from issuer.system import RandomIds, SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from issuer.core.policy import Policy
    from issuer.core.revocations import Revocations
    from issuer.ledger.group_commit import GroupCommit
    from issuer.ports import Ledger, RevocationBook, StatusBook

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
    def sign_all(self, signing_inputs: Sequence[bytes]) -> Sequence[bytes]:
        raise TemporarilyUnavailable(Reason.SIGNER_UNAVAILABLE, "the key cannot be used")


class NeverSigns(Es256Signer):
    def sign_all(self, signing_inputs: Sequence[bytes]) -> Sequence[bytes]:
        raise AssertionError("signed")


def issuance(
    tmp_path: Path,
    ledger: Ledger,
    *,
    signer: type[Es256Signer] = Es256Signer,
    revocations: RevocationBook | None = None,
    recorded_refusals: int = 300,
    approvals: ApprovalBook | None = None,
    policy: str = POLICY,
    statuses: StatusBook | None = None,
) -> Issuance:
    (tmp_path / "policy.yaml").write_text(policy, encoding="utf-8")
    return Issuance(
        profile=TokenProfile("https://issuer.dev.test"),
        policies=Book(load_policy(tmp_path / "policy.yaml")),
        facts=Facts(FactStore()),
        signer=signer(ec.generate_private_key(ec.SECP256R1())),
        ids=RandomIds(),
        ledger=ledger,
        revocations=revocations or LedgerRevocations(),
        refusals=RefusalBudget(recorded_refusals),
        approvals=ApprovalBook() if approvals is None else approvals,
        statuses=statuses
        or StatusEntries(ledger=ledger, blocks=BlocksTaken(), clock=SystemClock(), order=SystemRandom()),
    )


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[GroupCommit]:
    async with sqlite_ledger(tmp_path / "ledger.sqlite3") as opened:
        yield opened


def decisions(tmp_path: Path) -> list[tuple[object, ...]]:
    texts = "(SELECT value FROM text WHERE id = {})"
    columns = ", ".join(["outcome", texts.format("reason"), texts.format("scopes"), "token_id", "token_sha256"])
    return rows(tmp_path / "ledger.sqlite3", f"SELECT {columns} FROM decision ORDER BY seq")  # noqa: S608


async def issue(
    path: Issuance, request: TokenRequest = REQUEST, *, validate_only: bool = False, fields: LogFields | None = None
) -> IssuedToken:
    log_fields = {} if fields is None else fields
    wanted = Wanted(request, validate_only=validate_only)
    [outcome] = await path.issue_tokens(Asked(CALLER, "ipv4:127.0.0.1", NOW), [wanted], log_fields)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


async def test_the_log_names_the_token_by_its_hash(tmp_path: Path, ledger: Ledger) -> None:
    fields: LogFields = {}
    issued = await issue(issuance(tmp_path, ledger), fields=fields)
    assert issued.token is not None
    assert fields["token_sha256"] == issued.token.sha256.hex()
    assert (fields["token_id"], fields["decision_id"]) == (issued.token_id, issued.decision_id)
    assert issued.token.reveal() not in str(fields)
    assert decisions(tmp_path) == [(1, None, "ledger.read", issued.token_id, issued.token.sha256)]
    assert issued.token.reveal().encode() not in (tmp_path / "ledger.sqlite3").read_bytes()


async def test_a_denial_names_its_decision_in_the_error_and_in_the_log(tmp_path: Path, ledger: Ledger) -> None:
    fields: LogFields = {}
    with pytest.raises(PolicyDenied) as denied:
        await issue(issuance(tmp_path, ledger), TokenRequest(AUDIENCE, ("ledger.write",)), fields=fields)
    assert denied.value.reason is Reason.SCOPE_NOT_ALLOWED
    assert denied.value.decision_id == fields["decision_id"]
    assert "token_id" not in fields
    assert decisions(tmp_path) == [(2, "SCOPE_NOT_ALLOWED", None, None, None)]


async def test_a_ttl_below_the_shortest_is_a_fault_of_that_field(tmp_path: Path, ledger: Ledger) -> None:
    with pytest.raises(InvalidTokenRequest) as refused:
        await issue(issuance(tmp_path, ledger), TokenRequest(AUDIENCE, ("ledger.read",), ttl=timedelta(seconds=9)))
    assert [violation.field for violation in refused.value.violations] == ["ttl"]


async def test_validating_signs_nothing(tmp_path: Path, ledger: Ledger) -> None:
    issued = await issue(issuance(tmp_path, ledger, signer=NeverSigns), validate_only=True)
    assert (issued.token, issued.token_id) == (None, "")
    assert issued.grant.scopes == ("ledger.read",)
    assert decisions(tmp_path) == [(1, None, "ledger.read", None, None)]


async def test_a_key_that_cannot_be_used_ends_without_a_token(tmp_path: Path, ledger: Ledger) -> None:
    with pytest.raises(TemporarilyUnavailable):
        await issue(issuance(tmp_path, ledger, signer=BrokenSigner))
    assert decisions(tmp_path) == [(3, "SIGNER_UNAVAILABLE", "ledger.read", None, None)]


async def test_claims_that_are_not_what_was_decided_are_never_signed(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = claims.Claims.payload
    monkeypatch.setattr(
        claims.Claims, "payload", lambda self: honest(self).replace(b'"ledger.read"', b'"ledger.read ledger.write"')
    )
    with pytest.raises(ClaimsMismatch):
        await issue(issuance(tmp_path, ledger, signer=NeverSigns))
    assert decisions(tmp_path) == [(3, "INTERNAL", "ledger.read", None, None)]


async def test_nothing_is_released_when_the_ledger_is_closed(tmp_path: Path, ledger: GroupCommit) -> None:
    path = issuance(tmp_path, ledger)
    await ledger.close()
    for request in (REQUEST, TokenRequest(AUDIENCE, ("ledger.write",))):
        with pytest.raises(TemporarilyUnavailable) as refused:
            await issue(path, request)
        assert refused.value.reason is Reason.LEDGER_UNAVAILABLE


async def test_several_requests_share_one_commit(tmp_path: Path, ledger: GroupCommit) -> None:
    wanted = [Wanted(REQUEST), Wanted(InvalidTokenRequest(())), Wanted(TokenRequest(AUDIENCE, ("ledger.write",)))]
    observed = Observed()
    await ledger.close()
    async with sqlite_ledger(tmp_path / "ledger.sqlite3", observed) as alone:
        outcomes = await issuance(tmp_path, alone).issue_tokens(Asked(CALLER, "", NOW), wanted * 40, {})
    assert len(outcomes) == 120
    assert observed.batches == [120]
    assert len(decisions(tmp_path)) == 120


class OneBehind(LedgerRevocations):
    """Knows of no revocation when it is asked the first ``times``."""

    def __init__(self, book: LedgerRevocations, times: int) -> None:
        super().__init__()
        self._book = book
        self.left = times

    def current(self) -> Revocations:
        self.left -= 1
        return NOTHING_REVOKED if self.left >= 0 else self._book.current()


async def test_what_is_revoked_while_it_is_decided_is_decided_again_and_denied(tmp_path: Path) -> None:
    book = LedgerRevocations()
    async with sqlite_ledger(tmp_path / "ledger.sqlite3", revocations=book) as ledger:
        made = revoking(Selector(audience=AUDIENCE))
        await ledger.write(made)
        with pytest.raises(PolicyDenied) as denied:
            await issue(issuance(tmp_path, ledger, revocations=OneBehind(book, 1)))
    assert denied.value.reason is Reason.REVOKED
    assert decisions(tmp_path) == [(2, "REVOKED", None, None, None)]
    assert (made.id,) in rows(tmp_path / "ledger.sqlite3", "SELECT value FROM text"), "the record names it"


async def test_decisions_that_are_always_overtaken_end_without_a_token(tmp_path: Path) -> None:
    book = LedgerRevocations()
    async with sqlite_ledger(tmp_path / "ledger.sqlite3", revocations=book) as ledger:
        await ledger.write(revoking(Selector(audience="https://another")))
        behind = OneBehind(book, 100)
        with pytest.raises(TemporarilyUnavailable) as refused:
            await issue(issuance(tmp_path, ledger, revocations=behind))
    assert refused.value.reason is Reason.LEDGER_UNAVAILABLE
    assert behind.left == 100 - MAX_TRIES
    assert decisions(tmp_path) == []


async def test_under_load_no_token_is_alive_that_was_issued_after_the_revocation(tmp_path: Path) -> None:
    """Callers ask without pause while everything is revoked; by the ledger's own account of who came first."""
    book = LedgerRevocations()
    issued: list[str] = []
    async with sqlite_ledger(tmp_path / "ledger.sqlite3", revocations=book) as ledger:
        path = issuance(tmp_path, ledger, revocations=book)

        async def keep_asking() -> None:
            with suppress(PolicyDenied):
                while True:
                    issued.append((await issue(path)).token_id)

        callers = [asyncio.create_task(keep_asking()) for _ in range(20)]
        await eventually_true(lambda: len(issued) > 100)
        made = revoking(Selector(workload=parse_pattern("spiffe://dev.test/a")))
        await ledger.write(made)
        at_return = len(issued)
        await asyncio.wait_for(asyncio.gather(*callers), 10)
    known = book.get(made.id)
    assert known is not None
    seqs = dict(rows(tmp_path / "ledger.sqlite3", "SELECT token_id, seq FROM decision WHERE token_id IS NOT NULL"))
    assert all(seqs[token_id] <= known.decisions for token_id in issued), "every token that left is dead"
    assert len(issued) - at_return <= 20, "those that were recorded before it and not yet answered"


NOT_GRANTED = TokenRequest(AUDIENCE, ("ledger.write",))


async def refusal(path: Issuance, request: TokenRequest = NOT_GRANTED) -> Exception:
    [outcome] = await path.issue_tokens(Asked(CALLER, "ipv4:127.0.0.1", NOW), [Wanted(request)], {})
    assert isinstance(outcome, Exception)
    return outcome


async def test_a_caller_that_is_refused_again_and_again_does_not_fill_the_ledger(
    tmp_path: Path, ledger: Ledger
) -> None:
    path = issuance(tmp_path, ledger, recorded_refusals=2)
    outcomes = [await refusal(path) for _ in range(3 + 2 * COUNTED_TO_RECORDED + 5)]
    assert decisions(tmp_path) == [(2, "SCOPE_NOT_ALLOWED", None, None, None)] * 3
    assert [type(outcome) for outcome in outcomes[-5:]] == [RateLimited] * 5
    assert {type(outcome) for outcome in outcomes[:-5]} == {PolicyDenied}


async def test_a_refusal_that_is_only_counted_names_the_recorded_one_that_is_like_it(
    tmp_path: Path, ledger: Ledger
) -> None:
    path = issuance(tmp_path, ledger, recorded_refusals=1)
    _, first = await refusal(path), await refusal(path)
    fields: LogFields = {}
    with pytest.raises(PolicyDenied) as counted:
        await issue(path, NOT_GRANTED, fields=fields)
    assert isinstance(first, PolicyDenied)
    assert counted.value.decision_id == first.decision_id == fields["decision_id"]
    assert (counted.value.reason, counted.value.scopes) == (Reason.SCOPE_NOT_ALLOWED, ("ledger.write",))


async def test_requests_that_cannot_be_read_count_as_refusals(tmp_path: Path, ledger: Ledger) -> None:
    path = issuance(tmp_path, ledger, recorded_refusals=1)
    too_short = TokenRequest(AUDIENCE, ("ledger.read",), ttl=timedelta(seconds=9))
    for _ in range(5):
        assert isinstance(await refusal(path, too_short), InvalidTokenRequest)
    assert len(decisions(tmp_path)) == 2


async def test_a_caller_whose_budget_is_spent_still_gets_its_tokens(tmp_path: Path, ledger: Ledger) -> None:
    path = issuance(tmp_path, ledger, recorded_refusals=1)
    for _ in range(30):
        await refusal(path)
    issued = await issue(path)
    assert decisions(tmp_path)[-1][3] == issued.token_id


async def test_a_batch_of_refusals_spends_the_budget_item_by_item(tmp_path: Path, ledger: Ledger) -> None:
    path = issuance(tmp_path, ledger, recorded_refusals=2)
    asked = Asked(CALLER, "ipv4:127.0.0.1", NOW)
    outcomes = await path.issue_tokens(asked, [Wanted(NOT_GRANTED)] * 200 + [Wanted(REQUEST)], {})
    assert [type(outcome) for outcome in outcomes].count(RateLimited) == 200 - 3 - 2 * COUNTED_TO_RECORDED
    assert isinstance(outcomes[-1], IssuedToken)
    assert len(decisions(tmp_path)) == 4


async def test_what_the_ledger_did_not_take_spends_no_budget(tmp_path: Path, ledger: GroupCommit) -> None:
    path = issuance(tmp_path, ledger, recorded_refusals=1)
    await refusal(path)
    await ledger.close()
    for _ in range(3):
        with pytest.raises(TemporarilyUnavailable):
            await refusal(path)


LISTED = POLICY.replace("    max_ttl: 10m\n", "    max_ttl: 10m\n    status: required\n")


class NoEntries:
    """Status lists that are full, or a ledger that is away."""

    def __init__(self) -> None:
        self.asked: list[float | None] = []

    async def take(self, expires_at: int, now: datetime, within: float | None = None) -> int:
        assert expires_at == int(NOW.timestamp()) + 600
        assert now == NOW
        self.asked.append(within)
        raise TemporarilyUnavailable(Reason.STATUS_UNAVAILABLE, "no entry")


async def test_a_token_that_needs_a_status_gets_an_entry_which_is_recorded(tmp_path: Path, ledger: GroupCommit) -> None:
    issuing = issuance(tmp_path, ledger, policy=LISTED)
    issued = [await outcome_of(issuing) for _ in range(3)]
    claimed = [claims_of(each)["status"]["status_list"] for each in issued]
    recorded = rows(tmp_path / "ledger.sqlite3", "SELECT status FROM decision ORDER BY seq")
    numbers = [StatusIndex(int(each["uri"].rpartition("/")[2]), each["idx"]).number for each in claimed]
    assert recorded == [(number,) for number in numbers]
    assert len(set(numbers)) == 3


async def test_without_an_entry_there_is_no_token_and_the_refusal_is_recorded(
    tmp_path: Path, ledger: GroupCommit
) -> None:
    book = NoEntries()
    issuing = issuance(tmp_path, ledger, policy=LISTED, signer=NeverSigns, statuses=book)
    refused = await outcome_of(issuing, within=1.5)
    assert isinstance(refused, TemporarilyUnavailable)
    assert refused.reason is Reason.STATUS_UNAVAILABLE
    assert book.asked == [1.5]
    assert [row[:2] for row in decisions(tmp_path)] == [(3, "STATUS_UNAVAILABLE")]


async def test_who_only_wants_to_know_uses_up_no_entry(tmp_path: Path, ledger: GroupCommit) -> None:
    book = NoEntries()
    issuing = issuance(tmp_path, ledger, policy=LISTED, statuses=book)
    asked = Asked(CALLER, "", NOW)
    (answer,) = await issuing.issue_tokens(asked, [Wanted(REQUEST, validate_only=True)], {})
    assert isinstance(answer, IssuedToken)
    assert book.asked == []


async def test_a_token_without_a_status_needs_no_entry(tmp_path: Path, ledger: GroupCommit) -> None:
    issued = await outcome_of(issuance(tmp_path, ledger, statuses=NoEntries()))
    assert "status" not in claims_of(issued)


async def outcome_of(issuing: Issuance, within: float | None = None) -> IssuedToken | Exception:
    (answer,) = await issuing.issue_tokens(Asked(CALLER, "", NOW, within=within), [Wanted(REQUEST)], {})
    return answer


def claims_of(issued: IssuedToken | Exception) -> dict[str, Any]:
    assert isinstance(issued, IssuedToken)
    assert issued.token is not None
    claims: dict[str, Any] = json.loads(base64url_decoded(issued.token.reveal().split(".")[1]))
    return claims


OTHER = Caller(SpiffeId.parse("spiffe://dev.test/b"), b"1" * 32, 2, NOW + timedelta(hours=1))
TWO_CALLERS = POLICY.replace('"spiffe://dev.test/a"', '"spiffe://dev.test/*"')


def ask(caller: Caller, request: TokenRequest = REQUEST) -> TokenAsk:
    return TokenAsk(Asked(caller, "ipv4:127.0.0.1", NOW), Wanted(request), {"caller": str(caller.spiffe_id)})


async def test_requests_of_several_callers_share_a_commit_and_each_log_line_tells_its_own(tmp_path: Path) -> None:
    observed = Observed()
    async with sqlite_ledger(tmp_path / "ledger.sqlite3", observed) as ledger:
        path = issuance(tmp_path, ledger, policy=TWO_CALLERS)
        asks = [ask(CALLER), ask(OTHER, NOT_GRANTED), ask(OTHER)]
        first, refused, last = await path.issue_once(asks, None)
    assert observed.batches == [3]
    assert isinstance(refused, PolicyDenied)
    assert [(claims_of(each)["sub"], each.token_id) for each in (first, last) if isinstance(each, IssuedToken)] == [
        (ask_.told["caller"], ask_.told["token_id"]) for ask_ in asks if ask_.told and "token_id" in ask_.told
    ]
    assert asks[1].told is not None
    assert asks[1].told["decision_id"] == refused.decision_id


async def test_a_caller_that_spent_its_budget_of_refusals_spends_nobody_elses(tmp_path: Path, ledger: Ledger) -> None:
    path = issuance(tmp_path, ledger, recorded_refusals=1, policy=TWO_CALLERS)
    asks = [ask(CALLER, NOT_GRANTED) for _ in range(13)] + [ask(OTHER, NOT_GRANTED)]
    outcomes = await path.issue_once(asks, None)
    assert [type(outcome) for outcome in outcomes] == [*[PolicyDenied] * 12, RateLimited, PolicyDenied]
    assert len(decisions(tmp_path)) == 3


async def test_who_has_to_begin_again_has_been_told_nothing(tmp_path: Path) -> None:
    book = LedgerRevocations()
    async with sqlite_ledger(tmp_path / "ledger.sqlite3", revocations=book) as ledger:
        await ledger.write(revoking(Selector(audience=AUDIENCE)))
        path = issuance(tmp_path, ledger, revocations=OneBehind(book, 2), policy=TWO_CALLERS)
        asks = [ask(CALLER), ask(OTHER)]
        with pytest.raises(EpochMoved):
            await path.issue_once(asks, None)
        assert [each.told for each in asks] == [{"caller": "spiffe://dev.test/a"}, {"caller": "spiffe://dev.test/b"}]
        fields: LogFields = {"caller": "spiffe://dev.test/a"}
        with pytest.raises(PolicyDenied):
            await issue(path, fields=fields)
    assert "token_id" not in fields, "a token that was signed and thrown away is not in the line of a denial"


class Noted:
    """The port ``Trace``."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def at(self, step: Step) -> None:
        self.steps.append(step)


async def test_a_batch_is_recorded_and_released_once_and_calls_are_each_for_themselves(
    tmp_path: Path, ledger: Ledger
) -> None:
    path, batch, call = issuance(tmp_path, ledger), Noted(), Noted()
    asked = Asked(CALLER, "", NOW, trace=batch)
    await path.issue_once(
        [TokenAsk(each, Wanted(REQUEST), None) for each in (asked, asked, asked._replace(trace=call))], None
    )
    assert batch.steps.count(Step.DECIDE) == 2
    assert batch.steps[-2:] == call.steps[-2:] == [Step.RECORD, Step.RELEASE]
    assert [trace.steps.count(Step.RECORD) for trace in (batch, call)] == [1, 1]


async def test_only_calls_that_get_a_token_tell_of_a_signature(tmp_path: Path, ledger: Ledger) -> None:
    path, granted, refused, looked = issuance(tmp_path, ledger), Noted(), Noted(), Noted()
    asked = Asked(CALLER, "", NOW, trace=granted)
    asks = [
        TokenAsk(asked, Wanted(REQUEST), None),
        TokenAsk(asked._replace(trace=refused), Wanted(TokenRequest(AUDIENCE, ("ledger.write",))), None),
        TokenAsk(asked._replace(trace=looked), Wanted(REQUEST, validate_only=True), None),
    ]
    await path.issue_once(asks, None)
    assert [trace.steps.count(Step.SIGN) for trace in (granted, refused, looked)] == [1, 0, 0]
