"""What passes between the steps of :mod:`issuer.core.decide`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from issuer.core.approvals import NO_LOOK, ApprovalLook
from issuer.core.revocations import NOTHING_REVOKED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from issuer.core.caller import Caller
    from issuer.core.errors import Reason
    from issuer.core.evaluation import Evaluator
    from issuer.core.origin import Origin
    from issuer.core.policy import GrantRule, LimitRule, Policy, ProhibitionRule
    from issuer.core.revocations import Revocations
    from issuer.core.token_request import TokenRequest


class Obstacle:
    """What can keep a rule that speaks of the request from giving a token.

    Bits of a plain ``int``: the standard library's flags cost a microsecond for each operation.
    """

    NONE: Final = 0
    DATES: Final = 1
    GRANT_TYPE: Final = 2
    UNKNOWN: Final = 4
    FALSE: Final = 8
    APPROVAL: Final = 16


@dataclass(frozen=True, slots=True)
class Inputs:
    """What one decision is made from."""

    policy: Policy
    caller: Caller
    request: TokenRequest
    now: datetime
    evaluator: Evaluator
    revocations: Revocations = NOTHING_REVOKED
    approvals: ApprovalLook = NO_LOOK
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """The candidates that count: grants with the obstacles that are seen without evaluating a condition."""

    grants: Sequence[tuple[GrantRule, int]]
    prohibitions: Sequence[ProhibitionRule]
    limits: Sequence[LimitRule]


@dataclass(frozen=True, slots=True)
class Applying:
    """Rules 5 to 7 leave these: the application, and the rules that apply to it."""

    application: str | None
    grants: Sequence[GrantRule]
    prohibitions: Sequence[ProhibitionRule]
    limits: Sequence[LimitRule]


@dataclass(frozen=True, slots=True)
class Allowed:
    """Rules 5 to 9 let this through: the grants that give each scope, in the order of the request, and the limits."""

    application: str | None
    by_scope: Mapping[str, Sequence[GrantRule]]
    limits: Sequence[LimitRule]
    refused_scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """Rules 5 to 9 refuse."""

    reason: Reason
    scopes: tuple[str, ...]
    rule_ids: Sequence[str]
