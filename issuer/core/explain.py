"""Why a request is granted or refused: each candidate rule, each condition with its values, and what would change it.

The answer itself is :func:`issuer.core.decide.decide`'s; everything here is read from the same rules and the same
evaluator, so that an explanation does not disagree with the decision.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, Final

from issuer.core.candidates import find_candidates
from issuer.core.condition import Truth
from issuer.core.condition_parts import conjuncts_of, parts_of
from issuer.core.condition_text import ConditionError
from issuer.core.decide import decide, find_rules
from issuer.core.decision import Denial, Grant
from issuer.core.duration import format_duration
from issuer.core.errors import Reason
from issuer.core.evaluation import Evaluator
from issuer.core.explain_scopes import explain_scopes, lacking
from issuer.core.explanation import ConditionReport, Explanation, RuleReport
from issuer.core.policy import Mode
from issuer.core.weighing import Inputs, Obstacle

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from issuer.core.caller import Caller
    from issuer.core.condition import Condition, Context
    from issuer.core.explanation import ScopeReport
    from issuer.core.facts import Facts
    from issuer.core.origin import Origin
    from issuer.core.policy import GrantRule, LimitRule, Policy, ProhibitionRule
    from issuer.core.token_request import TokenRequest
    from issuer.core.weighing import Rules

MAX_NEAREST: Final = 3
_TAKES_AWAY: Final = {
    Truth.TRUE: "applies",
    Truth.FALSE: "a condition is false",
    Truth.UNKNOWN: "unknown, and so it applies",
}
_TOO_SHORT: Final = frozenset({Reason.SVID_EXPIRES_SOON, Reason.REQUEST_INVALID, Reason.ORIGIN_EXPIRES_SOON})


def explain_decision(
    policy: Policy,
    caller: Caller,
    request: TokenRequest,
    facts: Facts,
    now: datetime,
    *,
    origin: Origin | None = None,
) -> Explanation:
    """Return why ``policy`` answers ``request`` as it does. For operators: it shows the text of rules."""
    evaluator = Evaluator(policy, caller, request, facts, now)
    inputs = Inputs(policy, caller, request, now, evaluator, origin=origin)
    enforced, with_audited = find_rules(inputs)
    choice = _choice(inputs, enforced)
    explainer = _Explainer(inputs, {Mode.ENFORCE: choice, Mode.AUDIT: _choice(inputs, with_audited or enforced)})
    rules = tuple(explainer.rules())
    answer = decide(policy, caller, request, facts, now, origin=origin)
    scopes = explain_scopes(inputs, enforced, [report for report in rules if not report.audit])
    refused = [scope.name for scope in scopes if not scope.available]
    lacks = {scope: lacking(inputs, enforced, scope) for scope in refused}
    return Explanation(
        answer=answer,
        environments=tuple(sorted(inputs.evaluator.environments)),
        application=choice.application,
        rules=rules,
        scopes=scopes,
        changes=tuple(dict.fromkeys(_changes(answer, choice, rules, scopes, lacks))),
        nearest=() if any(rule.kind == "grant" for rule in rules) else tuple(_nearest(inputs)),
    )


@dataclass(frozen=True, slots=True)
class _Choice:
    """The application that the rules are looked at for; ``fault`` when the request named none, or a wrong one."""

    application: str | None
    fault: str | None


def _choice(inputs: Inputs, rules: Rules) -> _Choice:
    """Apply rule 5 of :mod:`issuer.core.decide`."""
    named = sorted({grant.application for grant, obstacles in rules.grants if not obstacles} - {None}, key=str)
    asked = inputs.request.application
    if asked is not None:
        there_are = f", only for {', '.join(map(str, named))}" if named else ""
        return _Choice(asked, None if asked in named else f"nothing is granted for the application {asked}{there_are}")
    if len(named) > 1:
        return _Choice(None, f"the request must name one of the applications {', '.join(map(str, named))}")
    return _Choice(next(iter(named), None), None)


class _Explainer:
    def __init__(self, inputs: Inputs, choices: dict[Mode, _Choice]) -> None:
        self.inputs = inputs
        self.policy = inputs.policy
        self.evaluator = inputs.evaluator
        self.scopes = inputs.request.scopes
        self.choices = choices
        enforced, with_audited = find_rules(inputs)
        self.obstacles = {grant.id: obstacles for grant, obstacles in (with_audited or enforced).grants}

    def rules(self) -> Iterator[RuleReport]:
        found = find_candidates(self.policy, self.inputs.caller.spiffe_id, self.inputs.request.audience)
        yield from (self.grant(rule) for rule in sorted(found.grants, key=lambda rule: rule.id))
        yield from (self.taking_away("prohibition", rule) for rule in sorted(found.prohibitions, key=lambda r: r.id))
        yield from (self.taking_away("limit", rule, rule.requires) for rule in sorted(found.limits, key=lambda r: r.id))
        if found.grants:
            yield from self.tiers()

    def grant(self, grant: GrantRule) -> RuleReport:
        choice = self.choices[grant.mode]
        why = self.obstacle(grant)
        if why is None and choice.application is not None and grant.application not in (None, choice.application):
            why = f"for the application {grant.application}"
        why = why or choice.fault
        if why is None and grant.scopes.isdisjoint(self.scopes):
            why = f"gives {' '.join(sorted(grant.scopes))}"
        truth = self.evaluator.truth(grant.conditions, choice.application)
        if why is None and truth is not Truth.TRUE:
            why = "a condition is false" if truth is Truth.FALSE else "a condition is unknown, which does not grant"
        return self.report("grant", grant, why or "applies", applies=why is None)

    def obstacle(self, grant: GrantRule) -> str | None:
        """Return what keeps a grant from counting, before its application and its conditions are looked at."""
        obstacles = self.obstacles.get(grant.id)
        if obstacles is None:
            own = self.policy.audiences[grant.audience].environment
            environments = grant.environments if grant.environments is not None else {str(own)}
            return f"for callers of the environment {', '.join(sorted(environments))}"
        if obstacles & Obstacle.DATES:
            return "outside of its dates"
        if obstacles & Obstacle.GRANT_TYPE and self.inputs.request.grant_type in grant.grant_types:
            return "for tokens of other subjects"
        if obstacles & Obstacle.GRANT_TYPE:
            return f"for {', '.join(sorted(grant.grant_types))}, not for {self.inputs.request.grant_type}"
        return None

    def taking_away(
        self, kind: str, rule: ProhibitionRule | LimitRule, requires: Iterable[Condition] = ()
    ) -> RuleReport:
        truth = self.evaluator.truth(rule.conditions, self.choices[rule.mode].application)
        touches = rule.scopes is None or not rule.scopes.isdisjoint(self.scopes)
        why = _TAKES_AWAY[truth] if touches else "other scopes"
        return self.report(kind, rule, why, applies=touches and truth is not Truth.FALSE, requires=requires)

    def report(
        self,
        kind: str,
        rule: GrantRule | ProhibitionRule | LimitRule,
        why: str,
        *,
        applies: bool,
        requires: Iterable[Condition] = (),
    ) -> RuleReport:
        application = self.choices[rule.mode].application
        conditions = self.conditions(rule.conditions, application)
        demanded = self.conditions(requires, application)
        return RuleReport(kind, rule.id, str(rule.source), applies, why, rule.mode is Mode.AUDIT, conditions, demanded)

    def tiers(self) -> Iterator[RuleReport]:
        declared = self.policy.audiences[self.inputs.request.audience].scopes
        for tier in sorted({declared[scope].risk for scope in self.scopes if scope in declared}):
            requires = self.conditions(self.policy.risk_tiers[tier].requires, self.choices[Mode.ENFORCE].application)
            if requires:
                holds = all(condition.truth is Truth.TRUE for condition in requires)
                why = "its conditions hold" if holds else "its conditions do not hold: its scopes are refused"
                yield RuleReport("risk tier", tier, "", not holds, why, audit=False, requires=requires)

    def conditions(self, conditions: Iterable[Condition], application: str | None) -> tuple[ConditionReport, ...]:
        return tuple(self.condition(condition, application) for condition in conditions)

    def condition(self, condition: Condition, application: str | None) -> ConditionReport:
        context = self.evaluator.context(application)
        known = [path for path in sorted(context.values) if _is_mentioned(path, condition.text)]
        truth = self.evaluator.truth_of(condition, application)
        false = [part for part in conjuncts_of(condition.text) if self.value(part, context) is False]
        return ConditionReport(
            name=condition.name,
            text=condition.text,
            truth=truth,
            missing=tuple(sorted(condition.mentions - context.values.keys())),
            values=tuple((path, context.values[path]) for path in known),
            parts=tuple((part, self.value(part, context)) for part in parts_of(condition.text)[1:]),
            because=tuple(false) if truth is Truth.FALSE else (),
        )

    def value(self, part: str, context: Context) -> Any:  # noqa: ANN401 - of whatever type
        try:
            return context.value_of(self.policy.engine.compile_part(part))
        except ConditionError:
            return None  # a part that means nothing by itself


def _nearest(inputs: Inputs) -> Iterator[tuple[str, str]]:
    own = str(inputs.caller.spiffe_id)
    near = (
        (SequenceMatcher(None, own, pattern.text).ratio(), pattern.text, grant.id)
        for grant in inputs.policy.grants
        if grant.audience == inputs.request.audience
        for pattern in grant.workloads
    )
    return ((text, rule) for _, text, rule in sorted(near, reverse=True)[:MAX_NEAREST])


def _is_mentioned(path: str, text: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(path)}(?!\w)", text) is not None


def _changes(
    answer: Grant | Denial,
    choice: _Choice,
    rules: Iterable[RuleReport],
    scopes: Iterable[ScopeReport],
    lacks: dict[str, str],
) -> Iterator[str]:
    """Yield what would have to be otherwise, rule by rule, for what was refused."""
    if isinstance(answer, Grant) and not answer.refused_scopes:
        return
    if choice.fault is not None:
        yield choice.fault
    if isinstance(answer, Denial) and answer.reason in _TOO_SHORT:
        shortest = min((scope.terms[0] for scope in scopes if scope.terms), key=lambda term: term.lifetime)
        yield f"the token would live for {format_duration(shortest.lifetime)} only, which {shortest.bound} sets"
    yield from (f"scope {scope}: {said}" for scope, said in lacks.items() if said)
    for rule in rules:
        for change in _changes_of(rule):
            yield f"{rule.kind} {rule.id}: {change}"


def _changes_of(rule: RuleReport) -> Iterator[str]:
    if rule.audit:
        if rule.applies and rule.kind == "grant":
            yield "is in audit mode, and would apply"
        return
    if rule.kind == "grant" and not rule.applies:
        wanted = [*_wanted(rule.conditions)]
        yield from wanted
        if not wanted:
            yield rule.why
    elif rule.kind == "prohibition" and rule.applies:
        yield from _told(rule.conditions) or (rule.why,)
    elif rule.refuses:
        yield from (*_told(rule.conditions), *_wanted(rule.requires))


def _told(conditions: Iterable[ConditionReport]) -> tuple[str, ...]:
    return tuple(f"tell {', '.join(each.missing)}" for each in conditions if each.missing)


def _wanted(conditions: Iterable[ConditionReport]) -> Iterator[str]:
    for each in conditions:
        if each.missing and each.truth is not Truth.TRUE:
            yield f"tell {', '.join(each.missing)}"
        elif each.truth is not Truth.TRUE:
            what = " and ".join(" ".join(part.split()) for part in each.because or (each.text,))
            yield f"{f'{each.name} ({what})' if each.name else what} would have to be true"
