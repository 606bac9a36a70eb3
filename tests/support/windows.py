"""Windows of access for tests: an opening, and the entries of its steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from issuer.core.access_text import opening_text, step_text
from issuer.core.access_window import Opening, Status, Step, StepKind
from issuer.core.instants import microseconds
from issuer.core.ledger_entries import ACCESS, ACCESS_ENDED, ACCESS_STARTED, StepTaken
from issuer.system import RandomIds, SystemClock

SETTLER = "spiffe://prod.example/ns/payments/sa/settler"
OPERATOR = "spiffe://prod.example/admin/operator"
MINUTE = 60_000_000
HOUR = 60 * MINUTE
DECISION = "0199e2b4-6f1a-7cc1-9d3e-6a1f0d6c9b55"


def opening(**changes: Any) -> Opening:
    """Return an opening at the beginning of time, for an hour."""
    usual = Opening(
        id="0199e2b4-6f1a-7cc1-9d3e-6a1f0d6c9b56",
        caller=SETTLER,
        audience="https://ledger.example",
        application="",
        scopes=("read", "refund"),
        intent="",
        bind_certificate=False,
        why="incident 7",
        request="",
        ttl=HOUR,
        created=0,
        until=HOUR,
        svid_until=2 * HOUR,
        decision=DECISION,
        policy="sha256:0",
    )
    return replace(usual, **changes)


def opening_now(**changes: Any) -> Opening:
    """Return an opening of this moment, with an id of its own."""
    now = SystemClock().now()
    time = microseconds(now)
    usual = opening(id=RandomIds().fresh_id(now), created=time, until=time + HOUR, svid_until=time + 2 * HOUR)
    return replace(usual, **changes)


def started(of: Opening) -> StepTaken:
    """Return the step that opens a window."""
    return StepTaken(ACCESS_STARTED, ACCESS, of.id, 1, of.created, of.caller, opening_text(of), of.over_at)


def ended(of: Opening, status: Status = Status.COMPLETED, by: str = SETTLER, number: int = 2) -> StepTaken:
    """Return the step that ends it, a microsecond after it began."""
    said = step_text(Step(StepKind.END, by, status))
    return StepTaken(ACCESS_ENDED, ACCESS, of.id, number, of.created + 1, by, said, of.over_at)
