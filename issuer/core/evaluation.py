"""From what is known about one request to the truth of its conditions.

Binds the three kinds of context under names that keep them apart: ``caller.*`` was proved, ``request.*`` is claimed,
``facts.*`` was told by feeders. What is not known is left out, and a condition that needs it is UNKNOWN.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from issuer.core.candidates import environments_of
from issuer.core.condition import Truth
from issuer.core.facts import CHOSEN_BY_CALLER, FactKey, SubjectKind
from issuer.core.token_request import Intent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from issuer.core.caller import Caller
    from issuer.core.condition import Condition, Context
    from issuer.core.facts import Fact, Facts, FactType
    from issuer.core.policy import Policy
    from issuer.core.token_request import TokenRequest

_INTENT: Final = tuple(field.name for field in fields(Intent))
_CHOSEN: Final = {
    SubjectKind.WORKFLOW: "workflow",
    SubjectKind.TICKET: "ticket",
    SubjectKind.TRANSACTION: "transaction",
}


class Evaluator:
    """Evaluates conditions for one request; remembers what it looked at, for the record.

    Attributes:
        environments: The environments of the caller.
        missing: The paths that some evaluated condition needed and nobody told.
        facts: The facts that evaluated conditions mentioned.
    """

    def __init__(self, policy: Policy, caller: Caller, request: TokenRequest, facts: Facts, now: datetime) -> None:
        self._policy = policy
        self._caller = caller
        self._request = request
        self._facts = facts
        self._now = now
        self._contexts: dict[str | None, Context] = {}
        self._told: dict[str | None, dict[str, Fact]] = {}
        self._truths: dict[tuple[str, str | None], Truth] = {}
        self.environments = environments_of(policy, caller.spiffe_id)
        self.missing: set[str] = set()
        self.facts: dict[FactKey, Fact] = {}

    def truth(self, conditions: Iterable[Condition], application: str | None) -> Truth:
        """Return what all of them come to together, on behalf of ``application``.

        FALSE as soon as one is known to be false, UNKNOWN if one is unknown, TRUE when there is none.
        """
        together = Truth.TRUE
        for condition in conditions:
            truth = self.truth_of(condition, application)
            if truth is Truth.FALSE:
                return Truth.FALSE
            if truth is Truth.UNKNOWN:
                together = Truth.UNKNOWN
        return together

    def truth_of(self, condition: Condition, application: str | None) -> Truth:
        """Return what one condition comes to. Equal texts are evaluated once."""
        key = condition.text, application
        found = self._truths.get(key)
        if found is None:
            context = self.context(application)
            found = self._truths[key] = condition.evaluate(context)
            self._remember(condition, context, application)
        return found

    def context(self, application: str | None) -> Context:
        """Return the variables of conditions that are evaluated on behalf of ``application``."""
        found = self._contexts.get(application)
        if found is None:
            found = self._contexts[application] = self._policy.engine.context(self._values(application))
        return found

    def _remember(self, condition: Condition, context: Context, application: str | None) -> None:
        self.missing |= condition.missing(context)
        told = self._told[application]
        for name in condition.fact_types:
            if (fact := told.get(name)) is not None:
                self.facts[fact.key] = fact

    def _values(self, application: str | None) -> dict[str, Any]:
        caller, request = self._caller, self._request
        values: dict[str, Any] = {
            "caller.spiffe_id": str(caller.spiffe_id),
            "caller.trust_domain": caller.spiffe_id.trust_domain.name,
            "caller.path": "/" + "/".join(caller.spiffe_id.segments),
            "caller.environments": sorted(self.environments),
            "caller.svid_expires": caller.not_after,
            "now": self._now,
            "request.audience": request.audience,
            "request.scopes": list(request.scopes),
            "request.grant_type": request.grant_type.value,
        }
        values.update(self._claimed())
        told = self._told[application] = {}
        for fact_type in self._policy.fact_types.values():
            if (fact := self._known(fact_type, application)) is not None:
                told[fact_type.name] = fact
                values.update(_fields(fact_type, fact))
        return values

    def _claimed(self) -> Iterator[tuple[str, Any]]:
        if self._request.application is not None:
            yield "request.application", self._request.application
        if self._request.ttl is not None:
            yield "request.ttl", self._request.ttl
        for name in _INTENT if self._request.intent is not None else ():
            if (said := getattr(self._request.intent, name)) is not None:
                yield f"request.intent.{name}", said

    def _known(self, fact_type: FactType, application: str | None) -> Fact | None:
        subject = subject_of(fact_type, self._caller, self._request, self.environments, application)
        fact = None if subject is None else self._facts.get(FactKey(fact_type.name, subject))
        if fact is None or not fact.counts_at(self._now) or self._now >= fact.observed_at + fact_type.max_age:
            return None
        if fact_type.subject in CHOSEN_BY_CALLER and not self._is_for_this(fact):
            return None
        return fact

    def _is_for_this(self, fact: Fact) -> bool:
        """The caller chose the subject, so the fact itself must say that it was meant for this caller and audience."""
        return fact.caller == str(self._caller.spiffe_id) and fact.audience == self._request.audience


def subject_of(
    fact_type: FactType, caller: Caller, request: TokenRequest, environments: frozenset[str], application: str | None
) -> str | None:
    """Return whom facts of this type are about in this request; ``None`` when there is no one, or more than one."""
    match fact_type.subject:
        case SubjectKind.CALLER:
            return str(caller.spiffe_id)
        case SubjectKind.TRUST_DOMAIN:
            return caller.spiffe_id.trust_domain.name
        case SubjectKind.ENVIRONMENT:
            return next(iter(environments)) if len(environments) == 1 else None
        case SubjectKind.AUDIENCE:
            return request.audience
        case SubjectKind.APPLICATION:
            return application
        case chosen:
            return None if request.intent is None else getattr(request.intent, _CHOSEN[chosen])


def _fields(fact_type: FactType, fact: Fact) -> Iterator[tuple[str, Any]]:
    for name, value in fact.values.items():
        if name in fact_type.fields:
            yield f"facts.{fact_type.name}.{name}", list(value) if isinstance(value, tuple) else value
