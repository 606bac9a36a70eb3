"""The policy: who may have which token. Frozen values with an index; :mod:`issuer.core.policy_parser` reads them.

Empty means no: a policy without grants is valid and grants nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from issuer.core.condition import ConditionCompiler
from issuer.core.index import RuleIndex

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from issuer.core.condition import Condition
    from issuer.core.facts import FactType
    from issuer.core.patterns import WorkloadPattern
    from issuer.core.policy_faults import Position
    from issuer.core.subjects import SubjectPattern
    from issuer.core.token_request import GrantType


DEFAULT_WINDOW: Final = timedelta(hours=1)
"""How long a window of access by a grant of type ``jit`` lasts at most, where the grant does not say."""


class RiskTier(StrEnum):
    """How much harm a scope can do; sets defaults for its tokens."""

    LOW = "low"
    MODERATE = "moderate"
    HIGH = "high"
    CRITICAL = "critical"


class Mode(StrEnum):
    """Whether a rule takes effect. One in ``audit`` is evaluated and recorded, and changes no answer."""

    ENFORCE = "enforce"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True)
class Approval:
    """Who must approve before a token is issued.

    Attributes:
        approvers: Patterns over the SPIFFE IDs of those who may.
        quorum: How many of them, at least one.
        valid_for: How long an answer is waited for, and then how long an approval can be used.
        uses: For how many tokens an approval is good, at least one.
        human: Each approver must prove to be a person, with an ID token.
    """

    approvers: tuple[WorkloadPattern, ...]
    quorum: int
    valid_for: timedelta
    uses: int = 1
    human: bool = False


@dataclass(frozen=True, slots=True)
class TierRules:
    """What every scope of a risk tier is subject to. ``requires`` must all be true."""

    max_ttl: timedelta
    binding_required: bool
    requires: tuple[Condition, ...] = ()
    approval: Approval | None = None
    status_required: bool = False


@dataclass(frozen=True, slots=True)
class ScopeRule:
    """A scope that an audience declares.

    ``max_ttl`` is ``None`` where only the tier and the audience bound it, ``approval`` where only the tier says.
    """

    name: str
    risk: RiskTier
    max_ttl: timedelta | None
    approval: Approval | None = None


@dataclass(frozen=True, slots=True)
class AudienceRule:
    """An API that tokens are for: the ``aud``, exactly, and the application that owns it.

    ``environment`` is where it runs: grants of it reach only callers of that environment, unless they name others.
    ``servers`` are the workloads that serve it: they may introspect its tokens. ``status_required``: its tokens have an
    entry in a status list, as do those of a risk tier that says so.
    """

    name: str
    application: str
    max_ttl: timedelta | None
    scopes: Mapping[str, ScopeRule]
    source: Position
    environment: str | None = None
    servers: tuple[WorkloadPattern, ...] = ()
    status_required: bool = False


@dataclass(frozen=True, slots=True)
class Environment:
    """A part of the world (production, build) that some workloads run in, by their proved identity."""

    name: str
    workloads: tuple[WorkloadPattern, ...]
    source: Position


@dataclass(frozen=True, slots=True)
class Group:
    """Workloads under one name. Grants and prohibitions that use it hold its patterns; this is for people and lint."""

    name: str
    workloads: tuple[WorkloadPattern, ...]
    owner: str | None
    description: str | None
    source: Position


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of policy files that may speak of these audiences alone. ``path`` is relative to the policy's folder."""

    path: str
    audiences: frozenset[str]
    source: Position


@dataclass(frozen=True, slots=True)
class Legacy:
    """A reviewed exception for an application that cannot renew: the rest of the SVID does not shorten its tokens.

    Attributes:
        reason: Why, for the next review.
        owner: Who answers for it.
        expires: The first moment at which it no longer applies; no token of it lives longer.
        max_ttl: The longest lifetime, never above the ceiling that the configuration sets.
    """

    reason: str
    owner: str
    expires: datetime
    max_ttl: timedelta


@dataclass(frozen=True, slots=True, eq=False)
class GrantRule:
    """Workloads may have scopes of one audience. Rules are told apart by identity; ids are unique in a policy.

    Attributes:
        application: On whose behalf the token acts. ``None``: the grant adds its scopes whichever application that is.
        not_before: The first moment at which it applies; ``None`` for always.
        expires: The first moment at which it no longer applies; ``None`` for never.
        conditions: All of them must be true: its ``when``, and the named ones that it ``requires``.
        environments: The caller must be in one of these; ``None`` leaves it to the audience's environment.
        groups: The names of the groups whose patterns are in ``workloads``.
        legacy: The exception under which its tokens outlive the caller's SVID.
        subjects: Whose tokens of others may be exchanged by it, and nobody else's; none: only tokens of this issuer.
        window: How long a window of access by it lasts at most; ``None`` for :data:`DEFAULT_WINDOW`.
    """

    id: str
    workloads: tuple[WorkloadPattern, ...]
    application: str | None
    audience: str
    scopes: frozenset[str]
    grant_types: frozenset[GrantType]
    max_ttl: timedelta | None
    not_before: datetime | None
    expires: datetime | None
    owner: str | None
    description: str | None
    source: Position
    conditions: tuple[Condition, ...] = ()
    environments: frozenset[str] | None = None
    groups: tuple[str, ...] = ()
    legacy: Legacy | None = None
    mode: Mode = Mode.ENFORCE
    subjects: tuple[SubjectPattern, ...] = ()
    window: timedelta | None = None

    @property
    def indexed_audiences(self) -> tuple[str, ...]:
        """The one audience, as the index wants it."""
        return (self.audience,)

    @property
    def longest_window(self) -> timedelta:
        """How long a window of access by it lasts at most."""
        return DEFAULT_WINDOW if self.window is None else self.window

    @property
    def ends(self) -> datetime | None:
        """The first moment at which it no longer applies: when it expires, or when its exception does."""
        if self.legacy is None:
            return self.expires
        return self.legacy.expires if self.expires is None else min(self.expires, self.legacy.expires)


@dataclass(frozen=True, slots=True, eq=False)
class ProhibitionRule:
    """Workloads may not have scopes of these audiences, whatever a grant says. ``scopes`` is ``None`` for all.

    It prohibits unless one of its ``conditions`` is known to be false: what cannot be evaluated prohibits.
    """

    id: str
    workloads: tuple[WorkloadPattern, ...]
    audiences: tuple[str, ...]
    scopes: frozenset[str] | None
    owner: str | None
    description: str | None
    source: Position
    conditions: tuple[Condition, ...] = ()
    groups: tuple[str, ...] = ()
    mode: Mode = Mode.ENFORCE

    @property
    def indexed_audiences(self) -> tuple[str, ...]:
        """The audiences, as the index wants them."""
        return self.audiences


@dataclass(frozen=True, slots=True, eq=False)
class LimitRule:
    """Downstream impact: while its conditions hold, tokens live shorter, or more must be true.

    Like a prohibition it applies unless one of its ``conditions`` is known to be false.

    Attributes:
        scopes: The scopes it limits; ``None`` for all of these audiences.
        max_ttl: Bounds every token it speaks of; ``None`` when it only demands conditions.
        requires: All must be true for a scope that it speaks of to be granted.
    """

    id: str
    workloads: tuple[WorkloadPattern, ...]
    audiences: tuple[str, ...]
    scopes: frozenset[str] | None
    max_ttl: timedelta | None
    requires: tuple[Condition, ...]
    owner: str | None
    description: str | None
    source: Position
    conditions: tuple[Condition, ...] = ()
    groups: tuple[str, ...] = ()
    mode: Mode = Mode.ENFORCE

    @property
    def indexed_audiences(self) -> tuple[str, ...]:
        """The audiences, as the index wants them."""
        return self.audiences


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """A whole policy, immutable.

    Attributes:
        audiences: By name.
        risk_tiers: Every tier, defaults filled in.
        min_ttl: No token lives shorter. No ``max_ttl`` of the policy is below it.
        digest: ``sha256:`` and hexadecimal, over all that a decision reads; see :mod:`issuer.core.policy_digest`.
        groups: By name; rules hold their patterns already.
        named_conditions: By name; rules hold them already.
        fact_types: By name.
        environments: In the order of the files.
        folders: Which folders may speak of which audiences; checked when the policy was read.
        engine: What compiled the conditions, and binds their variables.
    """

    audiences: Mapping[str, AudienceRule] = field(repr=False)
    risk_tiers: Mapping[RiskTier, TierRules]
    min_ttl: timedelta
    grants: tuple[GrantRule, ...] = field(repr=False)
    prohibitions: tuple[ProhibitionRule, ...] = field(repr=False)
    digest: str
    limits: tuple[LimitRule, ...] = field(default=(), repr=False)
    groups: Mapping[str, Group] = field(default_factory=dict, repr=False)
    named_conditions: Mapping[str, Condition] = field(default_factory=dict, repr=False)
    fact_types: Mapping[str, FactType] = field(default_factory=dict, repr=False)
    environments: tuple[Environment, ...] = field(default=(), repr=False)
    folders: tuple[Folder, ...] = field(default=(), repr=False)
    engine: ConditionCompiler = field(default_factory=lambda: ConditionCompiler({}), repr=False)
    grant_index: RuleIndex[GrantRule] = field(init=False, repr=False)
    prohibition_index: RuleIndex[ProhibitionRule] = field(init=False, repr=False)
    limit_index: RuleIndex[LimitRule] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Build the indexes, once."""
        object.__setattr__(self, "grant_index", RuleIndex(self.grants))
        object.__setattr__(self, "prohibition_index", RuleIndex(self.prohibitions))
        object.__setattr__(self, "limit_index", RuleIndex(self.limits))

    def requires_status(self, audience: str, scopes: Iterable[str]) -> bool:
        """Return whether tokens with these scopes of a declared audience have an entry in a status list."""
        rule = self.audiences[audience]
        return rule.status_required or any(self.risk_tiers[rule.scopes[scope].risk].status_required for scope in scopes)
