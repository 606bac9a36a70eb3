"""The policy: who may have which token. Frozen values with an index; :mod:`issuer.core.policy_parser` reads them.

Empty means no: a policy without grants is valid and grants nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from issuer.core.index import RuleIndex

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from issuer.core.patterns import WorkloadPattern
    from issuer.core.policy_faults import Position


class RiskTier(StrEnum):
    """How much harm a scope can do; sets defaults for its tokens."""

    LOW = "low"
    MODERATE = "moderate"
    HIGH = "high"
    CRITICAL = "critical"


class GrantType(StrEnum):
    """How a caller asks: by itself, with another's token, with a declared intent, or just in time after an approval."""

    CLIENT_CREDENTIALS = "client_credentials"
    TOKEN_EXCHANGE = "token_exchange"  # noqa: S105 - the name of a grant type
    INTENT = "intent"
    JIT = "jit"


@dataclass(frozen=True, slots=True)
class TierRules:
    """What every scope of a risk tier is subject to."""

    max_ttl: timedelta
    binding_required: bool


@dataclass(frozen=True, slots=True)
class ScopeRule:
    """A scope that an audience declares. ``max_ttl`` is ``None`` where only the tier and the audience bound it."""

    name: str
    risk: RiskTier
    max_ttl: timedelta | None


@dataclass(frozen=True, slots=True)
class AudienceRule:
    """An API that tokens are for: the ``aud``, exactly, and the application that owns it."""

    name: str
    application: str
    max_ttl: timedelta | None
    scopes: Mapping[str, ScopeRule]
    source: Position


@dataclass(frozen=True, slots=True, eq=False)
class GrantRule:
    """Workloads may have scopes of one audience. Rules are told apart by identity; ids are unique in a policy.

    Attributes:
        application: On whose behalf the token acts. ``None``: the grant adds its scopes whichever application that is.
        not_before: The first moment at which it applies; ``None`` for always.
        expires: The first moment at which it no longer applies; ``None`` for never.
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

    @property
    def indexed_audiences(self) -> tuple[str, ...]:
        """The one audience, as the index wants it."""
        return (self.audience,)


@dataclass(frozen=True, slots=True, eq=False)
class ProhibitionRule:
    """Workloads may not have scopes of these audiences, whatever a grant says. ``scopes`` is ``None`` for all."""

    id: str
    workloads: tuple[WorkloadPattern, ...]
    audiences: tuple[str, ...]
    scopes: frozenset[str] | None
    owner: str | None
    description: str | None
    source: Position

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
    """

    audiences: Mapping[str, AudienceRule] = field(repr=False)
    risk_tiers: Mapping[RiskTier, TierRules]
    min_ttl: timedelta
    grants: tuple[GrantRule, ...] = field(repr=False)
    prohibitions: tuple[ProhibitionRule, ...] = field(repr=False)
    digest: str
    grant_index: RuleIndex[GrantRule] = field(init=False, repr=False)
    prohibition_index: RuleIndex[ProhibitionRule] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Build the indexes, once."""
        object.__setattr__(self, "grant_index", RuleIndex(self.grants))
        object.__setattr__(self, "prohibition_index", RuleIndex(self.prohibitions))
