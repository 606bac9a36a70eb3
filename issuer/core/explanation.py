"""What an explanation holds: plain values, which a command prints. For operators: it shows the text of rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from issuer.core.condition import Truth

if TYPE_CHECKING:
    from issuer.core.decision import Denial, Grant
    from issuer.core.lifetime import Limit


@dataclass(frozen=True, slots=True)
class ConditionReport:
    """What a condition came to, and from what.

    Attributes:
        missing: The paths that it mentions and nobody told.
        values: The value of each variable that it mentions and that is known.
        parts: Its sub-expressions with what each came to; ``None`` for an error.
        because: Of what would have to be true together, that which is false; empty unless it came out false.
    """

    name: str | None
    text: str
    truth: Truth
    missing: tuple[str, ...]
    values: tuple[tuple[str, Any], ...]
    parts: tuple[tuple[str, Any], ...]
    because: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RuleReport:
    """A rule that speaks of the request.

    Attributes:
        kind: ``grant``, ``prohibition``, ``limit`` or ``risk tier``.
        applies: Whether it takes effect on this request.
        why: Why it does or does not, in a few words.
        audit: It is in audit mode: ``applies`` is what it would do.
        conditions: What decides whether it applies.
        requires: What a limit or a risk tier demands of the request.
    """

    kind: str
    id: str
    source: str
    applies: bool
    why: str
    audit: bool
    conditions: tuple[ConditionReport, ...] = ()
    requires: tuple[ConditionReport, ...] = ()

    @property
    def refuses(self) -> bool:
        """Whether it demands what is not known to be true."""
        return self.applies and any(condition.truth is not Truth.TRUE for condition in self.requires)


@dataclass(frozen=True, slots=True)
class ScopeReport:
    """What becomes of one scope of the request, looked at alone.

    Attributes:
        available: The rules give it. Whether there is a token depends on the other scopes and on the lifetime, too.
        grant: The id of the grant that gives it; of several, the one with the longest lifetime.
        why: What keeps it; empty when it is available.
        terms: Every limit on the lifetime of its token, the shortest first; empty when it is not available.
    """

    name: str
    available: bool
    grant: str | None
    why: tuple[str, ...]
    terms: tuple[Limit, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The decision, what it was made from, and what would have to change for another.

    Attributes:
        application: On whose behalf the rules were looked at.
        rules: Every rule that speaks of this caller and this audience, and the risk tiers that demand something.
        scopes: In the order of the request.
        changes: What would have to be otherwise, each enough to be worth a try; empty when everything is granted.
        nearest: Workload patterns of grants of the same audience that almost match, when no grant speaks of the caller.
    """

    answer: Grant | Denial
    environments: tuple[str, ...]
    application: str | None
    rules: tuple[RuleReport, ...]
    scopes: tuple[ScopeReport, ...]
    changes: tuple[str, ...]
    nearest: tuple[tuple[str, str], ...]
