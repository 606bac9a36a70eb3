"""Holds the table of claims, which is what issuers read, against the chained entries that took them."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import or_, select

from issuer.core.chain_check import ChainFault
from issuer.core.ledger_claims import claims_of, uses
from issuer.core.ledger_entries import STEPS, STEPS_OF, StepTaken, detail
from issuer.ledger.claims import KEPT_MICROSECONDS
from issuer.ledger.schema import claim, decision, event, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

_USES = (
    select(decision.c.decision_id, decision.c.time, decision.c.approval, decision.c.origin, text.c.value)
    .join(text, text.c.id == decision.c.caller)
    .where(or_(decision.c.approval.is_not(None), decision.c.origin.is_not(None)), decision.c.token_id.is_not(None))
)


class _Taken(NamedTuple):
    """What a claim says: when, by whom, what came of it."""

    time: int
    actor: str
    detail: str


class _Chained(NamedTuple):
    """What the chains say: each claim, those that two entries took, and when each is over."""

    claims: dict[str, _Taken]
    twice: set[str]
    over: dict[str, int]


def claim_faults(connection: Connection, pruned_before: int) -> Iterator[ChainFault]:
    """Yield each step of what has steps that the table and the chains tell differently, or that was taken twice.

    Args:
        connection: To the ledger.
        pruned_before: Entries of before that moment may be gone, microseconds since 1970 UTC.
    """
    # An issuer may write meanwhile: what is missing in one place was there, in the other, before that place was read.
    before = _chained(connection)
    columns = (claim.c.key, claim.c.time, claim.c.actor, claim.c.detail)
    steps = connection.execute(select(*columns).where(or_(*(claim.c.key.like(f"{of}/%") for of in STEPS_OF))))
    rows = {row.key: _Taken(row.time, row.actor, row.detail) for row in steps}
    after = _chained(connection)
    for key in sorted(after.twice):
        yield _fault(key, "two entries took it")
    for key, row in rows.items():
        chained = after.claims.get(key)
        if chained is None and row.time >= pruned_before:
            yield _fault(key, "no entry tells of it")
        elif chained is not None and chained != row and key not in after.twice:
            yield _fault(key, "the table has another than was chained")
    # What is over goes when something else is taken a day later.
    gone = max((taken.time for taken in after.claims.values()), default=0) - KEPT_MICROSECONDS
    for key in sorted(before.claims.keys() - rows.keys()):
        if before.over.get(key, 0) >= gone:
            yield _fault(key, "was removed from the table")


def _chained(connection: Connection) -> _Chained:
    found = _Chained({}, set(), {})
    for row in connection.execute(select(event).where(event.c.kind.in_(STEPS)).order_by(event.c.seq)):
        with suppress(ValueError, KeyError, TypeError):  # then its chain is broken as well, which is told
            told, of = json.loads(row.detail), STEPS[row.kind]
            said, name, number = detail(told["said"]), told[STEPS_OF[of]], told["number"]
            step = StepTaken(row.kind, of, name, number, row.time, row.actor, said, told["over"])
            for taken in claims_of([step]):
                if taken.key.partition("/")[0] in STEPS_OF:  # of the others nothing is known by its key
                    _add(found, taken.key, _Taken(taken.time, taken.actor, taken.detail), taken.expires_at)
    for row in connection.execute(_USES):
        with suppress(ValueError, KeyError, TypeError):
            for used in uses(row.approval or "", row.origin or "", bytes(row.decision_id), row.time, row.value):
                _add(found, used.key, _Taken(used.time, used.actor, used.detail), used.expires_at)
    return found


def _add(found: _Chained, key: str, taken: _Taken, over: int) -> None:
    if key in found.claims:
        found.twice.add(key)
    found.claims[key] = taken
    found.over[key] = over


def _fault(key: str, problem: str) -> ChainFault:
    return ChainFault("", 0, f"claim {key}", problem)
