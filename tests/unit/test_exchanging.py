"""The exchange of tokens with the real decision, ledger and introspection, at moments that no server can be held at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import SystemRandom
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from support.ledgers import revoking, rows, sqlite_ledger

from issuer.core.approval_book import ApprovalBook
from issuer.core.assertion import AssertionFault, AssertionRefused
from issuer.core.caller import Caller
from issuer.core.claims import TokenProfile
from issuer.core.errors import IssuerError, Reason, TemporarilyUnavailable
from issuer.core.exchange import ExchangeRules
from issuer.core.own_token import OwnTokens
from issuer.core.refusal_budget import RefusalBudget
from issuer.core.revocation import Selector
from issuer.core.spiffe_id import SpiffeId
from issuer.core.status_index import BlocksTaken
from issuer.core.token_request import GrantType, TokenRequest
from issuer.exchanging import Exchanging, Presented, SubjectKind
from issuer.facts.book import Facts
from issuer.facts.store import FactStore
from issuer.introspection import Introspection
from issuer.issuance import Asked, Issuance, IssuedToken, Wanted
from issuer.ledger.reading import LedgerReader
from issuer.ledger.revocation_book import LedgerRevocations
from issuer.ledger.token_book import LedgerTokenBook
from issuer.policy_files.directory import load_policy
from issuer.signing.es256 import Es256Signer
from issuer.status_entries import StatusEntries
from issuer.system import RandomIds, SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from issuer.core.assertion import Assertion
    from issuer.core.ledger_entries import Entry
    from issuer.core.policy import Policy
    from issuer.ledger.group_commit import GroupCommit

ISSUER = "https://issuer.dev.test"
ORDERS_API, STOCK_API = "https://orders.dev.test", "https://stock.dev.test"
POLICY = f"""\
version: 1
audiences:
  - {{name: "{ORDERS_API}", application: a, servers: ["spiffe://dev.test/orders"], scopes: [{{name: r, risk: low}}]}}
  - {{name: "{STOCK_API}", application: a, scopes: [{{name: r, risk: low}}]}}
grants:
  - {{id: front, owner: x, workloads: ["spiffe://dev.test/front"], audience: "{ORDERS_API}", scopes: [r]}}
  - id: orders
    owner: x
    workloads: ["spiffe://dev.test/orders"]
    audience: "{STOCK_API}"
    scopes: [r]
    grant_types: [token_exchange]
"""


class Book:
    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def current(self) -> Policy:
        return self._policy


class OvertakenLedger:
    """Revokes something by another hand, just before the first token on behalf of another is recorded."""

    def __init__(self, ledger: GroupCommit) -> None:
        self._ledger = ledger
        self.first: Selector | None = None

    async def write(self, *entries: Entry, within: float | None = None, epoch: int | None = None) -> None:
        if self.first is not None:
            selector, self.first = self.first, None
            await self._ledger.write(revoking(selector))
        await self._ledger.write(*entries, within=within, epoch=epoch)


class SharedTokens(LedgerTokenBook):
    """A ledger to which another issuer writes: what it revoked is not known here yet."""

    elsewhere: frozenset[str] = frozenset()

    async def revoked_after(self, version: int) -> frozenset[str]:
        return await super().revoked_after(version) | self.elsewhere


class NoProviders:
    """Knows of no provider, or cannot tell now."""

    away = False

    async def verify(self, text: str, now: datetime) -> Assertion:
        if self.away:
            raise TemporarilyUnavailable(Reason.OIDC_ISSUER_UNAVAILABLE, "the keys cannot be had now")
        raise AssertionRefused(AssertionFault.ISSUER_UNKNOWN)


class RequestPath(NamedTuple):
    issuance: Issuance
    exchanging: Exchanging
    ledger: OvertakenLedger
    tokens: SharedTokens
    providers: NoProviders
    file: Path

    async def front_token(self) -> IssuedToken:
        [outcome] = await self.issuance.issue_tokens(asked("front"), [Wanted(TokenRequest(ORDERS_API, ("r",)))], {})
        assert isinstance(outcome, IssuedToken)
        return outcome

    async def exchange(self, text: str, kind: SubjectKind = SubjectKind.ACCESS_TOKEN) -> tuple[IssuedToken, str]:
        request = TokenRequest(STOCK_API, ("r",), grant_type=GrantType.TOKEN_EXCHANGE)
        return await self.exchanging.exchange(asked("orders"), Presented(text, kind, request), {})

    def recorded(self) -> list[tuple[Any, ...]]:
        reason = "(SELECT value FROM text WHERE id = reason)"
        return rows(self.file, f"SELECT {reason}, token_id IS NOT NULL FROM decision ORDER BY seq")  # noqa: S608


def asked(name: str) -> Asked:
    now = datetime.now(UTC)
    caller = Caller(SpiffeId.parse(f"spiffe://dev.test/{name}"), b"0" * 32, 1, now + timedelta(hours=1))
    return Asked(caller, "ipv4:127.0.0.1", now)


def text_of(issued: IssuedToken) -> str:
    assert issued.token is not None
    return issued.token.reveal()


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[RequestPath]:
    file, revocations = tmp_path / "ledger.sqlite3", LedgerRevocations()
    (tmp_path / "policy.yaml").write_text(POLICY, encoding="utf-8")
    policies = Book(load_policy(tmp_path / "policy.yaml"))
    signer = Es256Signer(ec.generate_private_key(ec.SECP256R1()))
    async with sqlite_ledger(file, revocations=revocations) as opened:
        ledger, tokens, providers = OvertakenLedger(opened), SharedTokens(LedgerReader.sqlite(file)), NoProviders()
        issuance = Issuance(
            profile=TokenProfile(ISSUER),
            policies=policies,
            facts=Facts(FactStore()),
            signer=signer,
            ids=RandomIds(),
            ledger=ledger,
            revocations=revocations,
            refusals=RefusalBudget(300),
            approvals=ApprovalBook(),
            statuses=StatusEntries(ledger=ledger, blocks=BlocksTaken(), clock=SystemClock(), order=SystemRandom()),
        )
        introspection = Introspection(
            own=OwnTokens(signer.public_keys().jwks.decode(), ISSUER),
            policies=policies,
            revocations=revocations,
            tokens=tokens,
            is_current=lambda: opened.fault is None,
        )
        exchanging = Exchanging(
            rules=ExchangeRules(ISSUER, 10),
            introspection=introspection,
            issuance=issuance,
            revocations=revocations,
            tokens=tokens,
            authorities=lambda _: None,
            assertions=providers,
        )
        yield RequestPath(issuance, exchanging, ledger, tokens, providers, file)
        tokens._reader._kept.dispose()


async def refusal(path: RequestPath, text: str, kind: SubjectKind = SubjectKind.ACCESS_TOKEN) -> Reason:
    with pytest.raises(IssuerError) as refused:
        await path.exchange(text, kind)
    return refused.value.reason


async def test_a_token_is_released_while_what_it_rests_on_lives(path: RequestPath) -> None:
    issued, subject = await path.exchange(text_of(await path.front_token()))
    assert (bool(issued.token), subject) == (True, "spiffe://dev.test/front")
    assert path.recorded() == [(None, 1), (None, 1)]


@pytest.mark.parametrize("selector", [Selector(audience=ORDERS_API), Selector(rule="front"), Selector(everything=True)])
async def test_a_revocation_between_decision_and_record_has_it_decided_again_and_refused(
    path: RequestPath, selector: Selector
) -> None:
    front = text_of(await path.front_token())
    path.ledger.first = selector
    assert await refusal(path, front) is Reason.SUBJECT_TOKEN_NOT_TAKEN
    assert path.recorded() == [(None, 1), ("SUBJECT_TOKEN_NOT_TAKEN", 0)], "what was signed first is not in the record"


async def test_a_single_token_that_is_revoked_between_decision_and_record_takes_the_new_one_along(
    path: RequestPath,
) -> None:
    front = await path.front_token()
    path.ledger.first = Selector(token=front.token_id, audience=ORDERS_API)
    assert await refusal(path, text_of(front)) is Reason.SUBJECT_TOKEN_NOT_TAKEN
    assert path.recorded() == [(None, 1), (None, 1)], "recorded, never released"


async def test_so_does_one_that_another_issuer_revoked_and_this_one_has_not_heard_of(path: RequestPath) -> None:
    front = await path.front_token()
    path.tokens.elsewhere = frozenset({front.token_id})
    assert await refusal(path, text_of(front)) is Reason.SUBJECT_TOKEN_NOT_TAKEN


async def test_tokens_of_others_that_are_not_good_are_refused_and_recorded(path: RequestPath) -> None:
    assert await refusal(path, "a.b.c", SubjectKind.ID_TOKEN) is Reason.SUBJECT_TOKEN_NOT_TAKEN
    path.providers.away = True
    assert await refusal(path, "a.b.c", SubjectKind.ID_TOKEN) is Reason.OIDC_ISSUER_UNAVAILABLE
    assert await refusal(path, "a.b.c", SubjectKind.JWT_SVID) is Reason.SUBJECT_TOKEN_NOT_TAKEN
    assert [reason for reason, _ in path.recorded()] == [
        "SUBJECT_TOKEN_NOT_TAKEN",
        "OIDC_ISSUER_UNAVAILABLE",
        "SUBJECT_TOKEN_NOT_TAKEN",
    ]


def test_what_is_presented_does_not_print() -> None:
    request = TokenRequest(STOCK_API, ("r",))
    assert "secret" not in repr(Presented("secret", SubjectKind.ACCESS_TOKEN, request))
