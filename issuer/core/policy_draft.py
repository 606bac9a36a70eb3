"""A policy while it is being read: rules with the places of what they refer to, not yet checked against each other."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeVar

from issuer.core.policy import RiskTier, TierRules
from issuer.core.policy_faults import Position, quoted
from issuer.core.policy_values import SharedValues

if TYPE_CHECKING:
    from issuer.core.facts import FactType
    from issuer.core.policy import (
        Approval,
        AudienceRule,
        Environment,
        Folder,
        GrantRule,
        Group,
        LimitRule,
        ProhibitionRule,
    )
    from issuer.core.policy_faults import FaultList
    from issuer.core.policy_fields import Source
    from issuer.core.yaml_reader import Node, Scalar

DEFAULT_MIN_TTL: Final = timedelta(seconds=10)
MAX_MIN_TTL: Final = timedelta(minutes=1)
"""More would refuse the short lifetimes that high tiers are about."""

DEFAULT_TIERS: Final = {
    RiskTier.LOW: TierRules(timedelta(hours=1), binding_required=False),
    RiskTier.MODERATE: TierRules(timedelta(minutes=15), binding_required=False),
    RiskTier.HIGH: TierRules(timedelta(minutes=5), binding_required=True),
    RiskTier.CRITICAL: TierRules(timedelta(minutes=2), binding_required=True),
}
"""The most a leaked token of each tier can do is bounded by time; from ``high`` on it is worthless without the key."""


class GrantReferences(NamedTuple):
    """What a grant refers to, with its places; kept only while its audience is not declared yet, to save memory."""

    source: Source
    audience: Scalar | None
    scopes: list[Scalar]
    legacy: Node | None


class AudienceReferences(NamedTuple):
    """The audiences and scopes that a prohibition or a limit refers to, with their places."""

    what: str
    source: Source
    audiences: list[Scalar]
    scopes: list[Scalar]


class Links(NamedTuple):
    """What a rule or a tier says by name or in CEL, resolved when all files were read. Kept only for those that do."""

    what: str
    source: Source
    groups: tuple[Scalar, ...]
    environments: tuple[Scalar, ...]
    requires: tuple[Scalar, ...]
    when: Scalar | None


class NamedCondition(NamedTuple):
    """An entry of ``conditions``, not yet compiled."""

    when: Scalar
    file: Source
    source: Position


class SpokenOf(NamedTuple):
    """An audience, or a section, that a file speaks of; a restricted folder may not."""

    source: Source
    node: Scalar
    audience: str | None


class Declared(Protocol):
    """What can be declared under a name."""

    @property
    def source(self) -> Position:
        """Where it is."""


D = TypeVar("D", bound=Declared)


class PolicyDraft:
    """Everything that was read so far. A fault anywhere means that nothing of it is used."""

    def __init__(self, faults: FaultList, legacy_ceiling: timedelta | None) -> None:
        self.faults = faults
        self.legacy_ceiling = legacy_ceiling
        self.values = SharedValues()
        self.rules: dict[str, GrantRule | ProhibitionRule | LimitRule] = {}
        self.audiences: dict[str, AudienceRule] = {}
        self.grants: list[GrantRule] = []
        self.open_grants: list[GrantReferences] = []
        self.prohibitions: list[ProhibitionRule] = []
        self.limits: list[LimitRule] = []
        self.audience_references: list[AudienceReferences] = []
        self.links: dict[str, Links] = {}
        self.tiers: dict[RiskTier, tuple[TierRules, Position]] = {}
        self.tier_links: dict[RiskTier, Links] = {}
        self.environments: dict[str, Environment] = {}
        self.audience_environments: list[tuple[Source, Scalar]] = []
        self.groups: dict[str, Group] = {}
        self.named: dict[str, NamedCondition] = {}
        self.fact_types: dict[str, FactType] = {}
        self.folders: dict[str, Folder] = {}
        self.folder_audiences: list[tuple[Source, Scalar]] = []
        self.spoken_of: list[SpokenOf] = []
        self.min_ttl: tuple[timedelta, Position] | None = None
        self.short_ttls: list[tuple[timedelta, Position]] = []

    def add_rule(self, rule: GrantRule | ProhibitionRule | LimitRule, rule_id: Scalar | None) -> None:
        """Take a rule's id, or report that another rule has it."""
        first = self.rules.setdefault(rule.id, rule)
        if first is not rule and rule.id and rule_id is not None:
            position = Position(rule.source.file, rule_id.line, rule_id.column)
            self.faults.add(position, f"the id {rule.id!r} is taken by the rule at {first.source}")

    def speak_of(self, source: Source, node: Scalar, audience: str | None) -> None:
        """Remember that a file of a subfolder speaks of an audience, or (``None``) of what is not for teams."""
        if "/" in source.name:
            self.spoken_of.append(SpokenOf(source, node, audience))

    def declare(self, names: dict[str, D], source: Source, name: Scalar | None, what: str, declared: D) -> None:
        """Take a declaration, or report that its name is taken."""
        if name is None:
            return
        first = names.setdefault(name.text, declared)
        if first is not declared:
            source.report(name, f"the {what} {quoted(name.text)} is declared already, at {first.source}")

    def ttl(self, source: Source, node: Scalar | None, what: str) -> timedelta | None:
        """Return a lifetime, remembered if it could turn out to be below ``min_ttl``."""
        duration = source.converted(node, what, self.values.ttl)
        if node is not None and duration is not None and duration < MAX_MIN_TTL:
            self.short_ttls.append((duration, source.position(node)))
        return duration

    def approvals(self) -> list[tuple[Approval, Position]]:
        """Return every approval that is asked for, with its place."""
        of_tiers = [(rules.approval, position) for rules, position in self.tiers.values()]
        of_scopes = [
            (scope.approval, each.source) for each in self.audiences.values() for scope in each.scopes.values()
        ]
        return [(approval, position) for approval, position in (*of_tiers, *of_scopes) if approval is not None]

    def merged_min_ttl(self) -> timedelta:
        """Return the shortest lifetime of a token, as set or by default."""
        return self.min_ttl[0] if self.min_ttl else DEFAULT_MIN_TTL

    def merged_tiers(self) -> dict[RiskTier, TierRules]:
        """Return every risk tier, as set or by default."""
        return {tier: self.tiers[tier][0] if tier in self.tiers else DEFAULT_TIERS[tier] for tier in RiskTier}
