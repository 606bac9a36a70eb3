"""A type of fact, and facts of it."""

from __future__ import annotations

from datetime import timedelta

from issuer.core.facts import Fact, FactType, FieldType, SubjectKind
from issuer.core.policy_faults import Position
from support.policies import NOW, SETTLER

RISK = FactType(
    "risk", SubjectKind.CALLER, {"score": FieldType.INT}, timedelta(hours=1), None, Position("policy.yaml", 1, 1)
)


def risk(
    score: int,
    *,
    subject: str = SETTLER,
    source: str = "feeder",
    age: timedelta = timedelta(0),
    lasts: timedelta = timedelta(hours=1),
) -> Fact:
    """Return a fact of a feeder, observed ``age`` before :data:`NOW`."""
    return Fact("risk", subject, {"score": score}, source, NOW - age, NOW - age + lasts)
