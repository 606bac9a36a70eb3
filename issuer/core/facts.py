"""Facts: what trusted feeders said about the world, each with its source, its time and its end.

Three kinds of context are told apart by their names in conditions: ``caller.*`` was proved, ``request.*`` is claimed,
``facts.*`` was told by a feeder. A fact is keyed by its type and its subject. It counts from ``observed_at`` until it
ends, or until it is older than its type allows; outside of that it is missing, and a missing fact is never a default.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from issuer.core.policy_faults import Position

FactValue = bool | int | float | str | datetime | timedelta | tuple[str, ...]
"""The value of one field; ``tuple`` for a list of strings."""

MAX_SUBJECT_BYTES: Final = 2048
MAX_STRING_BYTES: Final = 1024
MAX_LIST_ITEMS: Final = 64
MAX_CLOCK_SKEW: Final = timedelta(seconds=5)
"""A fact from further in the future is refused: with it a feeder could stretch the age that policy allows."""


class FieldType(StrEnum):
    """What a field of a fact may hold; the names are CEL's."""

    BOOL = "bool"
    INT = "int"
    DOUBLE = "double"
    STRING = "string"
    TIMESTAMP = "timestamp"
    DURATION = "duration"
    STRINGS = "list(string)"


class SubjectKind(StrEnum):
    """What a fact is about, which says how a decision finds it.

    The first five come from proof or policy. The last three are chosen by the caller in its request, so such a fact
    counts only if it names this caller and this audience itself: else anyone could borrow another's approved ticket.
    """

    CALLER = "caller"
    TRUST_DOMAIN = "trust_domain"
    ENVIRONMENT = "environment"
    AUDIENCE = "audience"
    APPLICATION = "application"
    WORKFLOW = "workflow"
    TICKET = "ticket"
    TRANSACTION = "transaction"


CHOSEN_BY_CALLER: Final = frozenset({SubjectKind.WORKFLOW, SubjectKind.TICKET, SubjectKind.TRANSACTION})


@dataclass(frozen=True, slots=True)
class FactType:
    """A declared type of fact.

    Attributes:
        name: As in ``facts.NAME.field``.
        subject: What it is about.
        fields: The fields that it may carry, by name. A fact may leave some out; those are missing.
        max_age: How long after ``observed_at`` it counts at most.
        source: Where it is declared.
    """

    name: str
    subject: SubjectKind
    fields: Mapping[str, FieldType]
    max_age: timedelta
    description: str | None
    source: Position


class FactKey(NamedTuple):
    """What a fact is found by."""

    type: str
    subject: str


@dataclass(frozen=True, slots=True)
class Fact:
    """What one feeder said.

    Attributes:
        type: The declared type.
        subject: Whom or what it is about: a SPIFFE ID, a trust domain, an environment, an audience, an application, a
            workflow, a ticket or a transaction id.
        values: By field. Every value has the declared type: :mod:`issuer.core.fact_reading` saw to it.
        source: Who said it: ``file:NAME``, ``spiffe://...`` of the feeder, or ``authzen:NAME``.
        observed_at: When it was true, UTC.
        expires_at: When it ends, UTC: its own end or ``max_age`` after ``observed_at``, whichever is first.
        caller: The SPIFFE ID that it names as the one it was given for; needed where the caller chooses the subject.
        audience: The audience that it names, likewise.
    """

    type: str
    subject: str
    values: Mapping[str, FactValue]
    source: str
    observed_at: datetime
    expires_at: datetime
    caller: str | None = None
    audience: str | None = None

    @property
    def key(self) -> FactKey:
        """What it is found by."""
        return FactKey(self.type, self.subject)

    def counts_at(self, now: datetime) -> bool:
        """Return whether it has begun and not ended. The end is not included."""
        return self.observed_at <= now + MAX_CLOCK_SKEW and now < self.expires_at


Facts: TypeAlias = "Mapping[FactKey, Fact]"
"""What :func:`issuer.core.decide.decide` is given: every fact that a candidate rule could need, as far as known."""
