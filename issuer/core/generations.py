"""Which policy is in force, which are kept to go back to, and why the last load was refused. Pure values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from issuer.core.policy import Mode

if TYPE_CHECKING:
    from datetime import datetime

    from issuer.core.policy import GrantRule, LimitRule, Policy, ProhibitionRule


@dataclass(frozen=True, slots=True)
class Generation:
    """A policy that was put in force at some time.

    Attributes:
        policy: The policy.
        loaded_at: When.
        files: The files that it was read from, compressed, for the ledger.
    """

    policy: Policy
    loaded_at: datetime
    files: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class PolicyStatus:
    """The policy in force, and its surroundings.

    Attributes:
        current: The one in force.
        generations: Every one that is kept, newest first.
        pinned: A rollback holds the policy; files are not followed.
        last_fault: Why the last load was refused; ``None`` when it was not.
        last_fault_at: When that was.
    """

    current: Generation
    generations: tuple[Generation, ...]
    pinned: bool
    last_fault: str | None
    last_fault_at: datetime | None

    @property
    def audit_rules(self) -> list[str]:
        """The ids of rules in audit mode, sorted."""
        policy = self.current.policy
        rules: list[GrantRule | ProhibitionRule | LimitRule] = [*policy.grants, *policy.prohibitions, *policy.limits]
        return sorted(rule.id for rule in rules if rule.mode is Mode.AUDIT)


def keep(generations: tuple[Generation, ...], new: Generation, at_most: int) -> tuple[Generation, ...]:
    """Return the kept generations with a new one in front; an equal policy loaded again is kept once."""
    older = [each for each in generations if each.policy.digest != new.policy.digest]
    return (new, *older)[:at_most]
