"""Why a request is granted or refused: each candidate rule, each condition with its values, and what would change it.

The answer itself is :func:`issuer.core.decide.decide`'s; everything here is read from the same rules and the same
evaluator, so an explanation cannot disagree with the decision.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, Final

from issuer.core.candidates import find_candidates, is_in_force
from issuer.core.condition import Truth
from issuer.core.condition_parts import parts_of
from issuer.core.condition_text import ConditionError
from issuer.core.decide import decide
from issuer.core.evaluation import Evaluator
from issuer.core.policy import GrantRule, Mode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from issuer.core.caller import Caller
    from issuer.core.condition import Condition
    from issuer.core.decision import Denial, Grant
    from issuer.core.facts import Facts
    from issuer.core.policy import LimitRule, Policy, ProhibitionRule
    from issuer.core.token_request import TokenRequest

MAX_NEAREST: Final = 3
_OF_TAKING_AWAY: Final = {
    Truth.TRUE: "applies",
    Truth.FALSE: "a condition is false",
    Truth.UNKNOWN: "unknown, and so it applies",
}


@dataclass(frozen=True, slots=True)
class ConditionReport:
    """What a condition came to, and from what.

    Attributes:
        missing: The paths that it needs and nobody told.
        values: The value of each variable that it mentions and that is known.
        parts: Its sub-expressions with what each came to; ``None`` for an error.
    """

    name: str | None
    text: str
    truth: Truth
    missing: tuple[str, ...]
    values: tuple[tuple[str, Any], ...]
    parts: tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class RuleReport:
    """A rule that speaks of the request.

    Attributes:
        kind: ``grant``, ``prohibition``, ``limit`` or ``risk tier``.
        applies: Whether it takes effect on this request.
        why: Why it does or does not, in a few words.
        audit: It is in audit mode: ``applies`` is what it would do.
    """

    kind: str
    id: str
    source: str
    applies: bool
    why: str
    audit: bool
    conditions: tuple[ConditionReport, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The decision, what it was made from, and what would have to change for another.

    Attributes:
        nearest: Workload patterns of grants of the same audience that almost match, when no grant speaks of the caller.
    """

    answer: Grant | Denial
    environments: tuple[str, ...]
    rules: tuple[RuleReport, ...]
    changes: tuple[str, ...]
    nearest: tuple[tuple[str, str], ...]


class _Explainer:
    def __init__(self, policy: Policy, caller: Caller, request: TokenRequest, facts: Facts, now: datetime) -> None:
        self.policy = policy
        self.caller = caller
        self.request = request
        self.now = now
        self.evaluator = Evaluator(policy, caller, request, facts, now)
        self.candidates = find_candidates(policy, caller.spiffe_id, request.audience)
        named = {grant.application for grant in self.candidates.grants if not self.obstacle(grant)} - {None}
        self.application = request.application or (next(iter(named)) if len(named) == 1 else None)

    def obstacle(self, grant: GrantRule) -> str | None:
        """Return what keeps a grant from counting, before its application and its conditions are looked at."""
        if not is_in_force(grant, self.now, self.policy.min_ttl):
            return "outside of its dates"
        if self.request.grant_type not in grant.grant_types:
            return f"for {', '.join(sorted(grant.grant_types))}, not for {self.request.grant_type}"
        own = self.policy.audiences[grant.audience].environment
        environments = grant.environments if grant.environments is not None else frozenset(filter(None, (own,)))
        if environments and environments.isdisjoint(self.evaluator.environments):
            return f"for callers of the environment {', '.join(sorted(environments))}"
        return None

    def grant(self, grant: GrantRule) -> RuleReport:
        why = self.obstacle(grant)
        if why is None and grant.application not in (None, self.application):
            why = f"for the application {grant.application}"
        if why is None and grant.scopes.isdisjoint(self.request.scopes):
            why = f"gives {' '.join(sorted(grant.scopes))}"
        truth = self.evaluator.truth(grant.conditions, self.application)
        if why is None and truth is not Truth.TRUE:
            why = "a condition is false" if truth is Truth.FALSE else "a condition is unknown, which does not grant"
        return self.report("grant", grant, grant.conditions, why or "applies", applies=why is None)

    def taking_away(self, kind: str, rule: ProhibitionRule | LimitRule, more: Iterable[Condition] = ()) -> RuleReport:
        truth = self.evaluator.truth(rule.conditions, self.application)
        touches = rule.scopes is None or not rule.scopes.isdisjoint(self.request.scopes)
        why = {Truth.TRUE: "applies", Truth.FALSE: "a condition is false", Truth.UNKNOWN: "unknown, and so it applies"}[
            truth
        ]
        applies = touches and truth is not Truth.FALSE
        return self.report(kind, rule, (*rule.conditions, *more), why if touches else "other scopes", applies=applies)

    def tiers(self) -> Iterator[RuleReport]:
        declared = self.policy.audiences[self.request.audience].scopes if self.candidates.grants else {}
        for tier in sorted({declared[scope].risk for scope in self.request.scopes if scope in declared}):
            requires = self.policy.risk_tiers[tier].requires
            if requires:
                holds = self.evaluator.truth(requires, self.application) is Truth.TRUE
                why = "its conditions hold" if holds else "its conditions do not hold: its scopes are refused"
                yield RuleReport("risk tier", tier, "", not holds, why, False, self.conditions(requires))  # noqa: FBT003

    def report(
        self,
        kind: str,
        rule: GrantRule | ProhibitionRule | LimitRule,
        conditions: Iterable[Condition],
        why: str,
        *,
        applies: bool,
    ) -> RuleReport:
        audit = rule.mode is Mode.AUDIT
        return RuleReport(kind, rule.id, str(rule.source), applies, why, audit, self.conditions(conditions))

    def conditions(self, conditions: Iterable[Condition]) -> tuple[ConditionReport, ...]:
        return tuple(self.condition(condition) for condition in conditions)

    def condition(self, condition: Condition) -> ConditionReport:
        context = self.evaluator.context(self.application)
        known = [path for path in sorted(context.values) if _mentioned(path, condition.text)]
        return ConditionReport(
            name=condition.name,
            text=condition.text,
            truth=self.evaluator.truth_of(condition, self.application),
            missing=tuple(sorted(condition.mentions - context.values.keys())),
            values=tuple((path, context.values[path]) for path in known),
            parts=tuple(self.part(text, context) for text in parts_of(condition.text)[1:]),
        )

    def part(self, text: str, context: Any) -> tuple[str, Any]:  # noqa: ANN401 - of whatever type
        try:
            return text, context.value_of(self.policy.engine.compile_part(text))
        except ConditionError:
            return text, None  # a part that means nothing by itself

    def nearest(self) -> tuple[tuple[str, str], ...]:
        own = str(self.caller.spiffe_id)
        near = (
            (SequenceMatcher(None, own, pattern.text).ratio(), pattern.text, grant.id)
            for grant in self.policy.grants
            if grant.audience == self.request.audience
            for pattern in grant.workloads
        )
        return tuple((text, rule) for _, text, rule in sorted(near, reverse=True)[:MAX_NEAREST])


def explain_decision(policy: Policy, caller: Caller, request: TokenRequest, facts: Facts, now: datetime) -> Explanation:
    """Return why ``policy`` answers ``request`` as it does. For operators: it shows the text of rules."""
    explainer = _Explainer(policy, caller, request, facts, now)
    found = explainer.candidates
    rules = (
        *(explainer.grant(rule) for rule in sorted(found.grants, key=lambda rule: rule.id)),
        *(explainer.taking_away("prohibition", rule) for rule in sorted(found.prohibitions, key=lambda rule: rule.id)),
        *(
            explainer.taking_away("limit", rule, rule.requires)
            for rule in sorted(found.limits, key=lambda rule: rule.id)
        ),
        *explainer.tiers(),
    )
    answer = decide(policy, caller, request, facts, now)
    return Explanation(
        answer=answer,
        environments=tuple(sorted(explainer.evaluator.environments)),
        rules=rules,
        changes=tuple(dict.fromkeys(_changes(rules))),
        nearest=() if found.grants else explainer.nearest(),
    )


def _mentioned(path: str, text: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(path)}(?!\w)", text) is not None


def _changes(rules: Iterable[RuleReport]) -> Iterator[str]:
    """Yield what would have to be otherwise, rule by rule."""
    for rule in rules:
        in_the_way = rule.applies is (rule.kind != "grant")
        if not in_the_way or rule.audit:
            continue
        for condition in rule.conditions:
            if condition.missing:
                yield f"{rule.kind} {rule.id}: tell {', '.join(condition.missing)}"
            elif condition.truth is not Truth.TRUE and rule.kind in {"grant", "risk tier"}:
                yield f"{rule.kind} {rule.id}: {condition.name or condition.text} would have to be true"
        if rule.kind != "risk tier" and not any(condition.missing for condition in rule.conditions):
            yield f"{rule.kind} {rule.id}: {rule.why}"
