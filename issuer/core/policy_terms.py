"""The terms on which a grant gives a scope, put together from every place of a policy that sets them, and in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from issuer.core.condition_text import read_condition
from issuer.core.duration import format_duration
from issuer.core.policy import DEFAULT_WINDOW

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime, timedelta

    from issuer.core.condition import Condition
    from issuer.core.policy import Approval, AudienceRule, Environment, GrantRule, Policy

Changed = tuple[str, str | None, str | None]
"""What changes, from what, to what; ``None`` where there was, or is, nothing."""


class Phrases:
    """Conditions in one line. Those that differ in spaces, comments or name only are the same phrase."""

    def __init__(self) -> None:
        self._by_text: dict[str, str] = {}
        self._by_tokens: dict[tuple[str, ...], str] = {}

    def of(self, conditions: Iterable[Condition]) -> frozenset[str]:
        """Return the phrases of some conditions."""
        return frozenset(self._phrase(condition.text) for condition in conditions)

    def _phrase(self, text: str) -> str:
        known = self._by_text.get(text)
        if known is None:
            tokens = read_condition(text).tokens
            shown, end = "", 0
            for token in tokens:
                shown += " " * bool(shown and token.start > end) + token.text
                end = token.end
            known = self._by_text[text] = self._by_tokens.setdefault(tuple(token.text for token in tokens), shown)
        return known


def all_of(phrases: Iterable[str]) -> str | None:
    """Return conditions that must all hold as one text; ``None`` when there are none."""
    ordered = sorted(phrases)
    if len(ordered) > 1:
        return " && ".join(f"({phrase})" for phrase in ordered)
    return ordered[0] if ordered else None


class Terms(NamedTuple):
    """On what terms a scope is given. Two grants with equal terms give the same."""

    risk: str
    lifetime: timedelta
    outlives_svid: bool
    conditions: frozenset[str]
    environments: frozenset[str] | None
    not_before: datetime | None
    expires: datetime | None
    approval: str | None
    binding: bool
    subjects: frozenset[str] = frozenset()
    window: timedelta | None = None
    status: bool = False

    def cover(self, other: Terms) -> bool:
        """Return whether whoever meets ``other`` gets at least as much by these."""
        return (
            self.lifetime >= other.lifetime
            and self.outlives_svid >= other.outlives_svid
            and self.conditions <= other.conditions
            and (self.environments is None or self.environments >= (other.environments or {""}))
            and (self.not_before is None or (other.not_before is not None and self.not_before <= other.not_before))
            and (self.expires is None or (other.expires is not None and self.expires >= other.expires))
            and (self.window or DEFAULT_WINDOW) >= (other.window or DEFAULT_WINDOW)
            and (self.risk, self.approval, self.binding, self.status)
            == (other.risk, other.approval, other.binding, other.status)
            and self.subjects == other.subjects
        )

    def words(self) -> dict[str, str | None]:
        """Return each term by its name; ``None`` for one that asks for nothing."""
        return {
            "risk": self.risk,
            "max_ttl": format_duration(self.lifetime),
            "legacy": "outlives the SVID" if self.outlives_svid else None,
            "when": all_of(self.conditions),
            "environments": None if self.environments is None else ", ".join(sorted(self.environments)) or "none",
            "not_before": instant(self.not_before),
            "expires": instant(self.expires),
            "approval": self.approval,
            "binding": "required" if self.binding else None,
            "subjects": " ".join(sorted(self.subjects)) or None,
            "window": None if self.window is None else format_duration(self.window),
            "status": "required" if self.status else None,
        }


class TermsReader:
    """Puts together the terms of grants of one policy.

    Attributes:
        environments: In words, by name.
    """

    def __init__(self, policy: Policy, phrases: Phrases) -> None:
        self._policy = policy
        self._phrases = phrases
        self.environments = {each.name: environment_words(each) for each in policy.environments}
        self._by_audience: dict[str, dict[str, Terms]] = {}

    def of_audience(self, name: str) -> Mapping[str, Terms]:
        """Return what the audience, its scopes and their tiers set by themselves; nothing where it is not declared."""
        if name not in self._by_audience:
            audience = self._policy.audiences.get(name)
            scopes = {} if audience is None else audience.scopes
            self._by_audience[name] = {scope: self._declared(audience, scope) for scope in scopes if audience}
        return self._by_audience[name]

    def of_grant(self, rule: GrantRule, scope: str) -> Terms:
        """Return the terms on which ``rule`` gives ``scope``."""
        declared = self.of_audience(rule.audience)[scope]
        bounds = (declared.lifetime, rule.max_ttl, None if rule.legacy is None else rule.legacy.max_ttl)
        environments = declared.environments
        if rule.environments is not None:
            environments = frozenset(self.environments[name] for name in rule.environments)
        return declared._replace(
            lifetime=min(bound for bound in bounds if bound is not None),
            outlives_svid=rule.legacy is not None,
            conditions=declared.conditions | self._phrases.of(rule.conditions),
            environments=environments,
            not_before=rule.not_before,
            expires=rule.ends,
            subjects=frozenset(pattern.text for pattern in rule.subjects),
        )

    def _declared(self, audience: AudienceRule, name: str) -> Terms:
        scope = audience.scopes[name]
        tier = self._policy.risk_tiers[scope.risk]
        own = audience.environment
        return Terms(
            risk=scope.risk.value,
            lifetime=min(bound for bound in (tier.max_ttl, scope.max_ttl, audience.max_ttl) if bound is not None),
            outlives_svid=False,
            conditions=self._phrases.of(tier.requires),
            environments=None if own is None else frozenset({self.environments[own]}),
            not_before=None,
            expires=None,
            approval=approval_words(scope.approval or tier.approval),
            binding=tier.binding_required,
            status=audience.status_required or tier.status_required,
        )


def environment_words(environment: Environment) -> str:
    """Return an environment with its workloads."""
    return f"{environment.name} ({' '.join(sorted(pattern.text for pattern in environment.workloads))})"


def approval_words(approval: Approval | None) -> str | None:
    """Return who must approve; ``None`` for nobody."""
    if approval is None:
        return None
    approvers = " ".join(sorted(pattern.text for pattern in approval.approvers))
    uses = f", for {approval.uses} tokens" if approval.uses > 1 else ""
    human = ", each proved to be a person" if approval.human else ""
    return f"{approval.quorum} of {approvers}, valid for {format_duration(approval.valid_for)}{uses}{human}"


def instant(moment: datetime | None) -> str | None:
    """Return a moment as RFC 3339 has it, in UTC."""
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
