"""Resolves what rules say by name or in CEL, when every file was read: groups, environments, conditions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from issuer.core.condition import ConditionCompiler
from issuer.core.condition_text import ConditionError
from issuer.core.policy_faults import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from issuer.core.condition import Condition
    from issuer.core.patterns import WorkloadPattern
    from issuer.core.policy import GrantRule, LimitRule, ProhibitionRule, RiskTier, TierRules
    from issuer.core.policy_draft import Links, PolicyDraft
    from issuer.core.policy_fields import Source
    from issuer.core.yaml_reader import Scalar


class Linker:
    """Knows every name of a policy, and compiles its conditions."""

    def __init__(self, draft: PolicyDraft) -> None:
        self._draft = draft
        self.engine = ConditionCompiler(draft.fact_types)
        self._lists: dict[tuple[Condition, ...], tuple[Condition, ...]] = {}
        self.named = {
            name: condition
            for name, declared in draft.named.items()
            if (condition := self._compiled(declared.file, declared.when, name)) is not None
        }

    def grants(self) -> tuple[GrantRule, ...]:
        """Return the grants with the patterns of their groups, their environments and their conditions."""
        grants, links = self._draft.grants, self._draft.links
        for position, rule in enumerate(grants):
            # In place, and each link forgotten when it is resolved: never two copies of 100,000 grants.
            grants[position] = self._grant(rule, links.pop(rule.id, None))
        return tuple(grants)

    def prohibitions(self) -> tuple[ProhibitionRule, ...]:
        """Return the prohibitions likewise."""
        return tuple(self._prohibition(rule, self._draft.links.get(rule.id)) for rule in self._draft.prohibitions)

    def limits(self) -> tuple[LimitRule, ...]:
        """Return the limits likewise; what a limit requires is its effect, not when it applies."""
        return tuple(self._limit(rule, self._draft.links.get(rule.id)) for rule in self._draft.limits)

    def linked_tiers(self, tiers: Mapping[RiskTier, TierRules]) -> dict[RiskTier, TierRules]:
        """Return the tiers with the conditions that they require."""
        links = self._draft.tier_links
        return {
            tier: replace(rules, requires=self._required(links[tier])) if tier in links else rules
            for tier, rules in tiers.items()
        }

    def _grant(self, rule: GrantRule, links: Links | None) -> GrantRule:
        if links is None:
            return rule
        groups, workloads = self._groups(rule.workloads, links)
        names = frozenset(self._names(links, links.environments, "environment", self._draft.environments))
        environments = names if links.environments else None
        listed = (*self._required(links), *self._inline(links))
        conditions = self._lists.setdefault(listed, listed)  # grants with the same conditions hold one list of them
        return replace(rule, groups=groups, workloads=workloads, environments=environments, conditions=conditions)

    def _prohibition(self, rule: ProhibitionRule, links: Links | None) -> ProhibitionRule:
        if links is None:
            return rule
        groups, workloads = self._groups(rule.workloads, links)
        return replace(
            rule, groups=groups, workloads=workloads, conditions=(*self._required(links), *self._inline(links))
        )

    def _limit(self, rule: LimitRule, links: Links | None) -> LimitRule:
        if links is None:
            return rule
        groups, workloads = self._groups(rule.workloads, links)
        conditions, requires = self._inline(links), self._required(links)
        return replace(rule, groups=groups, workloads=workloads, conditions=conditions, requires=requires)

    def _groups(
        self, own: tuple[WorkloadPattern, ...], links: Links
    ) -> tuple[tuple[str, ...], tuple[WorkloadPattern, ...]]:
        names = tuple(self._names(links, links.groups, "group", self._draft.groups))
        of_groups = [pattern for name in names for pattern in self._draft.groups[name].workloads]
        return names, tuple(dict.fromkeys((*own, *of_groups)))

    def _required(self, links: Links) -> tuple[Condition, ...]:
        names = self._names(links, links.requires, "condition", self._draft.named)
        return tuple(self.named[name] for name in names if name in self.named)

    def _inline(self, links: Links) -> tuple[Condition, ...]:
        condition = None if links.when is None else self._compiled(links.source, links.when, None)
        return () if condition is None else (condition,)

    def _names(self, links: Links, nodes: Sequence[Scalar], what: str, declared: Mapping[str, object]) -> Iterator[str]:
        for node in nodes:
            if node.text in declared:
                yield node.text
            else:
                message = f"{links.what}: no {what} {quoted(node.text)} is declared"
                links.source.report_unknown(node, message, declared)

    def _compiled(self, source: Source, when: Scalar, name: str | None) -> Condition | None:
        try:
            return self.engine.compile(when.text, name, source.position(when))
        except ConditionError as error:
            source.report_within(when, error.line, error.column, error.message)
            return None
