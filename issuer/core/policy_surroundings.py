"""What decides and is no access of anybody: the shortest lifetime, facts, environments, and rules in audit mode."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from issuer.core.duration import format_duration
from issuer.core.policy import GrantRule, LimitRule, Mode, ProhibitionRule
from issuer.core.policy_terms import all_of, environment_words, instant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from issuer.core.facts import FactType
    from issuer.core.policy import Policy
    from issuer.core.policy_terms import Changed, Phrases


def surroundings_changes(old: Policy, new: Policy, phrases: Phrases) -> Iterator[Changed]:
    """Yield what differs, sorted by name."""
    before, after = _surroundings(old, phrases), _surroundings(new, phrases)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield name, before.get(name), after.get(name)


def _surroundings(policy: Policy, phrases: Phrases) -> dict[str, str]:
    rules = chain[GrantRule | ProhibitionRule | LimitRule](policy.grants, policy.prohibitions, policy.limits)
    return {
        "min_ttl": format_duration(policy.min_ttl),
        **{f"fact {each.name}": _fact_words(each) for each in policy.fact_types.values()},
        **{f"environment {each.name}": environment_words(each) for each in policy.environments},
        **{f"{rule.id} in audit mode": _rule_words(rule, phrases) for rule in rules if rule.mode is Mode.AUDIT},
    }


def _fact_words(fact_type: FactType) -> str:
    fields = ", ".join(f"{name}: {of}" for name, of in sorted(fact_type.fields.items()))
    return f"about {fact_type.subject}, at most {format_duration(fact_type.max_age)} old, {fields}"


def _rule_words(rule: GrantRule | ProhibitionRule | LimitRule, phrases: Phrases) -> str:
    terms: dict[str, str | None] = {
        "workloads": " ".join(sorted(pattern.text for pattern in rule.workloads)),
        "audiences": " ".join(sorted(rule.indexed_audiences)),
        "scopes": None if rule.scopes is None else " ".join(sorted(rule.scopes)),
        "when": all_of(phrases.of(rule.conditions)),
    }
    if isinstance(rule, GrantRule):
        types = " ".join(sorted(rule.grant_types))
        environments = None if rule.environments is None else " ".join(sorted(rule.environments))
        subjects = " ".join(sorted(pattern.text for pattern in rule.subjects)) or None
        own = {
            "application": rule.application,
            "grant_types": types,
            "subjects": subjects,
            "environments": environments,
        }
        terms |= own | {"not_before": instant(rule.not_before), "expires": instant(rule.ends)}
    if max_ttl := getattr(rule, "max_ttl", None):
        terms["max_ttl"] = format_duration(max_ttl)
    if requires := getattr(rule, "requires", ()):
        terms["requires"] = all_of(phrases.of(requires))
    return ", ".join(f"{name} {text}" for name, text in terms.items() if text)
