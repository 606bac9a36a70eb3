"""What revocations cost: a decision beside the same without any, 100,000 tokens by a pattern, one introspection."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from cryptography.hazmat.primitives.asymmetric import ec

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # for tests/support

from support import dead_tokens as dead
from support.ledgers import group_commit, record, revoking
from support.policies import NOW, SETTLER, caller, grant, grants, policy, request

from agent_client.verification.revocations_keeping import RevocationKeeper
from agent_client.verification.revocations_news import RevocationNews, WatchBeginning
from issuer.core.claims import TokenProfile, build_claims
from issuer.core.decide import decide
from issuer.core.decision import Grant
from issuer.core.own_token import OwnTokens
from issuer.core.patterns import parse_pattern
from issuer.core.record import Minted, record_decision
from issuer.core.revocation import Selector
from issuer.core.revocations import NOTHING_REVOKED
from issuer.core.token import compact_token, signing_input
from issuer.introspection import Introspection
from issuer.issuance import Asked
from issuer.ledger.engine import RevocationRow
from issuer.ledger.reading import LedgerReader
from issuer.ledger.revocation_book import LedgerRevocations
from issuer.ledger.sqlite_ledger import SqliteLedger
from issuer.ledger.token_book import LedgerTokenBook
from issuer.revoking import Revoke, Revoking
from issuer.signing.es256 import Es256Signer
from issuer.system import RandomIds, SystemClock

if TYPE_CHECKING:
    from issuer.core.policy import Policy
    from issuer.core.revocations import Revocations

REVOKED_IDS = 1_000_000
STOPS = 1_000
TOKENS = 100_000
IDENTITIES = 10_000
DECISIONS = 5_000
ROUNDS = 9
INTROSPECTIONS = 1_000
ISSUER = "https://issuer.example"
SERVED = """\
version: 1
audiences:
  - name: https://ledger.example
    application: ledger
    servers: ["spiffe://prod.example/ns/payments/sa/settler"]
    scopes: [{name: read, risk: low}]
"""


class _Book:
    def __init__(self, loaded: Policy) -> None:
        self._policy = loaded

    def current(self) -> Policy:
        """Return the policy."""
        return self._policy


def measure_revocation(folder: Path) -> list[dict[str, object]]:
    """Return each figure as a row."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    ids, stops = LedgerRevocations(), LedgerRevocations()
    _learn(ids, (Selector(token=f"jti-{number}") for number in range(REVOKED_IDS)))
    _learn(stops, (Selector(workload=parse_pattern(f"spiffe://prod.example/x/{n}/**")) for n in range(STOPS)))
    named = {
        "decision, nothing revoked": NOTHING_REVOKED,
        f"decision, {REVOKED_IDS:,} ids revoked": ids.current(),
        f"decision, {STOPS:,} patterns stopped": stops.current(),
    }
    rounds = [{what: _decision_us(known) for what, known in named.items()} for _ in range(ROUNDS)]  # in turn
    return [
        *({"what": what, "us": round(min(each[what] for each in rounds), 2)} for what in named),
        {"what": f"a verifier's look, {REVOKED_IDS:,} ids revoked", "us": round(_look_us(), 2)},
        *asyncio.run(_in_a_ledger(folder / "ledger.sqlite3")),
    ]


def _learn(book: LedgerRevocations, selectors: object) -> None:
    now = SystemClock().now()
    end = int(now.timestamp()) + 3_600
    rows = []
    for version, selector in enumerate(selectors, 1):  # type: ignore[var-annotated,arg-type]
        made = revoking(selector, expires_at=end if selector.token else None)
        rows.append(RevocationRow(version, made.id, made.time, made.actor, made.event(0, version).detail, None, None))
        if len(rows) == DECISIONS:
            book.learn(rows, now)
            rows.clear()
    book.learn(rows, now)


def _decision_us(revocations: Revocations) -> float:
    rules = policy(grants(*(grant(f"g{number}") for number in range(5))))
    who, what = caller(), request()
    started = time.perf_counter()
    for _ in range(DECISIONS):
        decide(rules, who, what, {}, NOW, revocations=revocations)
    return (time.perf_counter() - started) / DECISIONS * 1e6


def _look_us() -> float:
    """Return what a resource server pays for a token that was not revoked, each time another one."""
    keeper = RevocationKeeper(timedelta(minutes=1), (), 2 * REVOKED_IDS)
    keeper.take(
        RevocationNews(beginning=WatchBeginning(dead.ISSUER, "ledger", frozenset({dead.AUDIENCE}), resumed=False))
    )
    now = SystemClock().now()
    end = int(now.timestamp()) + 3_600
    for start in range(0, REVOKED_IDS, DECISIONS):
        keeper.take(dead.dead(*(f"jti-{number}" for number in range(start, start + DECISIONS)), end=end))
    keeper.take(RevocationNews(version=1))
    alive = [dead.token(RandomIds().fresh_id(now)) for _ in range(DECISIONS)]
    rounds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for token in alive:
            keeper.refuse_revoked(token, dead.KEY)
        rounds.append((time.perf_counter() - started) / DECISIONS * 1e6)
    return min(rounds)


async def _in_a_ledger(file: Path) -> list[dict[str, object]]:
    book = LedgerRevocations()
    ledger = group_commit(SqliteLedger(file), revocations=book, max_wait=timedelta(seconds=60), max_waiting=10**6)
    await ledger.open()
    for start in range(0, TOKENS, 10_000):
        made = (record(caller=f"spiffe://prod.example/x/{n % IDENTITIES}") for n in range(start, start + 10_000))
        await ledger.write(*made)
    tokens = LedgerTokenBook(LedgerReader.sqlite(file))
    now = SystemClock().now()
    asked = Asked(replace(caller(SETTLER), not_after=now + timedelta(hours=1)), "", now)
    introspected = await _introspection_us(book, tokens, ledger.write, asked)
    revoker = Revoking(ledger=ledger, revocations=book, tokens=tokens, ids=RandomIds())
    started = time.perf_counter()
    _, hits = await revoker.revoke(Revoke(Selector(workload=parse_pattern("spiffe://prod.example/x/**")), "x"), asked)
    seconds = time.perf_counter() - started
    await ledger.close()
    return [
        {"what": f"revoking {hits.tokens:,} tokens of {hits.identities:,} identities", "us": round(seconds * 1e6)},
        {"what": "introspection, beside the RPC: a token that is new here", "us": round(introspected[0])},
        {"what": "introspection, beside the RPC: a token that was asked for before", "us": round(introspected[1])},
    ]


async def _introspection_us(
    book: LedgerRevocations, tokens: LedgerTokenBook, write: object, asked: Asked
) -> tuple[float, float]:
    """Return what a first look at a token costs, and each further one."""
    signer = Es256Signer(ec.generate_private_key(ec.SECP256R1()))
    loaded = policy(grants(grant()), audiences=SERVED)
    texts = [await _issued(loaded, signer, write, asked) for _ in range(INTROSPECTIONS)]
    own = OwnTokens(signer.public_keys().jwks.decode(), ISSUER)
    looking = Introspection(own=own, policies=_Book(loaded), revocations=book, tokens=tokens, is_current=lambda: True)

    async def once() -> float:
        started = time.perf_counter()
        for text in texts:
            found, why_not = await looking.introspect(text, asked)
            assert found, why_not  # noqa: S101 - a measurement of anything else would be none
        return (time.perf_counter() - started) / INTROSPECTIONS * 1e6

    return await once(), await once()


async def _issued(loaded: Policy, signer: Es256Signer, write: object, asked: Asked) -> str:
    answer = decide(loaded, asked.caller, request(), {}, asked.now)
    assert isinstance(answer, Grant)  # noqa: S101 - as above
    claims = build_claims(answer, asked.caller, TokenProfile(ISSUER), RandomIds().fresh_id(asked.now), asked.now)
    to_sign = signing_input(signer.algorithm, signer.key_id, claims.payload())
    token = compact_token(to_sign, signer.sign(to_sign))
    recorded = record_decision(
        answer, decision_id=RandomIds().fresh_id(asked.now), caller=asked.caller, peer="", request=request(),
        facts={}, now=asked.now, minted=Minted(claims.token_id, claims.expires_at, token.sha256),
    )  # fmt: skip
    await write(recorded)  # type: ignore[operator] # the ledger's own
    return token.reveal()
