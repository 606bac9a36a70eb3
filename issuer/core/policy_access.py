"""Who has which access by a policy at some time, on what terms, and what prohibitions and limits do about it.

The grants of one workload pattern for one audience are a *place*. Places whose signatures are equal on two sides of a
comparison give the same, and need no closer look: this is what makes policies of 100,000 grants comparable in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from issuer.core.duration import format_duration
from issuer.core.pattern_overlap import OverlapIndex
from issuer.core.policy import DEFAULT_WINDOW, LimitRule, Mode, ProhibitionRule
from issuer.core.policy_terms import TermsReader, all_of
from issuer.core.token_request import GrantType

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from issuer.core.patterns import WorkloadPattern
    from issuer.core.policy import GrantRule, Policy
    from issuer.core.policy_terms import Phrases, Terms

Place = tuple[str, str]
"""The text of a workload pattern, and an audience."""
Signature = frozenset[tuple[object, ...]]
"""What rules say, whatever their ids and order."""


class Key(NamedTuple):
    """One access of a place. ``application`` is ``None`` for whichever it is."""

    application: str | None
    scope: str
    grant_type: str


Affecting = dict[tuple[str, str], set[str]]
"""What prohibitions or limits do to an access: the workloads of it, and in words what, with the ids of the rules."""
ALWAYS = "always"


@dataclass(slots=True)
class Access:
    """One access, with the ids of the rules behind everything."""

    ways: dict[Terms, set[str]] = field(default_factory=dict)
    takings: Affecting = field(default_factory=dict)
    limitings: Affecting = field(default_factory=dict)

    @property
    def grants(self) -> frozenset[str]:
        """The ids of the grants that give it."""
        return frozenset().union(*self.ways.values())

    def prohibiting(self, workload: str) -> frozenset[str]:
        """Return the ids of the prohibitions that take it from all of ``workload``, always."""
        return frozenset(self.takings.get((workload, ALWAYS), ()))

    def effective_takings(self) -> Affecting:
        """Return what prohibitions do, less what is only sometimes prohibited to those to whom it always is."""
        return {
            (workload, words): ids
            for (workload, words), ids in self.takings.items()
            if words == ALWAYS or (workload, ALWAYS) not in self.takings
        }


class PolicyAccess:
    """The access that ``policy`` gives from ``now`` on.

    Rules in audit mode give and take nothing, nor do grants that have ended.

    Attributes:
        places: The grants of each place.
        terms: Puts together the terms of a grant.
        taking: A signature of all prohibitions and limits.
    """

    def __init__(self, policy: Policy, phrases: Phrases, now: datetime) -> None:
        self._phrases = phrases
        self.terms = TermsReader(policy, phrases)
        prohibitions = [rule for rule in policy.prohibitions if rule.mode is Mode.ENFORCE]
        limits = [rule for rule in policy.limits if rule.mode is Mode.ENFORCE]
        taking = chain[ProhibitionRule | LimitRule](prohibitions, limits)
        self.taking: Signature = frozenset(
            (frozenset(rule.workloads), frozenset(rule.audiences), *self._taking_terms(rule)) for rule in taking
        )
        self._prohibitions, self._limits = OverlapIndex(prohibitions), OverlapIndex(limits)
        self.places: dict[Place, list[GrantRule]] = {}
        self._patterns: dict[str, WorkloadPattern] = {}
        for rule in policy.grants:
            if rule.mode is Mode.ENFORCE and (rule.ends is None or now + policy.min_ttl <= rule.ends):
                for pattern in rule.workloads:
                    self._patterns[pattern.text] = pattern
                    self.places.setdefault((pattern.text, rule.audience), []).append(rule)

    def signature(self, place: Place) -> Signature:
        """Return what the grants of a place set by themselves."""
        return frozenset(self._grant_terms(rule) for rule in self.places.get(place, ()))

    def taking_signature(self, place: Place) -> Signature:
        """Return what prohibitions and limits say about one of :attr:`places`."""
        pattern, audience = self._patterns[place[0]], place[1]
        found = chain[tuple[ProhibitionRule | LimitRule, str]](
            self._prohibitions.overlapping(pattern, audience), self._limits.overlapping(pattern, audience)
        )
        return frozenset((workload, *self._taking_terms(rule)) for rule, workload in found)

    def _grant_terms(self, rule: GrantRule) -> tuple[object, ...]:
        legacy = rule.legacy and rule.legacy.max_ttl
        terms = (rule.application, rule.max_ttl, legacy, rule.window, rule.not_before, rule.ends, rule.subjects)
        return (*terms, rule.environments, rule.scopes, rule.grant_types, self._phrases.of(rule.conditions))

    def _taking_terms(self, rule: ProhibitionRule | LimitRule) -> tuple[object, ...]:
        terms = (rule.scopes, self._phrases.of(rule.conditions))
        return terms if isinstance(rule, ProhibitionRule) else (*terms, rule.max_ttl, self._phrases.of(rule.requires))

    def accesses(self, place: Place) -> dict[Key, Access]:
        """Return each access of a place."""
        found: dict[Key, Access] = {}
        for rule in self.places.get(place, ()):
            for scope in rule.scopes:
                terms = self.terms.of_grant(rule, scope)
                for grant_type in rule.grant_types:
                    access = found.setdefault(Key(rule.application, scope, grant_type), Access())
                    usual = grant_type is not GrantType.JIT or rule.longest_window == DEFAULT_WINDOW
                    window = None if usual else rule.window
                    access.ways.setdefault(terms._replace(window=window), set()).add(rule.id)
        if found:
            self._add_taking(place, found)
        return found

    def _add_taking(self, place: Place, found: Mapping[Key, Access]) -> None:
        pattern, audience = self._patterns[place[0]], place[1]
        for rule, workload in self._prohibitions.overlapping(pattern, audience):
            when = all_of(self._phrases.of(rule.conditions))
            for access in _spoken_of(found, rule.scopes):
                access.takings.setdefault((workload, f"when {when}" if when else ALWAYS), set()).add(rule.id)
        for limit, workload in self._limits.overlapping(pattern, audience):
            for access in _spoken_of(found, limit.scopes):
                access.limitings.setdefault((workload, self._limit_words(limit)), set()).add(limit.id)

    def _limit_words(self, rule: LimitRule) -> str:
        terms = [
            rule.max_ttl and f"at most {format_duration(rule.max_ttl)}",
            rule.requires and f"requires {all_of(self._phrases.of(rule.requires))}",
        ]
        terms.append(f"when {all_of(self._phrases.of(rule.conditions))}")  # the language demands one
        return ", ".join(term for term in terms if term)


def _spoken_of(found: Mapping[Key, Access], scopes: frozenset[str] | None) -> list[Access]:
    return [access for key, access in found.items() if scopes is None or key.scope in scopes]
