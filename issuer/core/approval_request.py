"""What somebody is asked to approve, and its digest: an approval is bound to exactly this, and to nothing else.

The digest is SHA-256 over canonical JSON of who asks, for what, for how long, to what end, and of the policy that said
that somebody has to approve it. Whatever of that differs, a changed policy too, needs an approval of its own.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from issuer.core.instants import MICROSECOND
from issuer.core.token_request import intent_text

if TYPE_CHECKING:
    from issuer.core.spiffe_id import SpiffeId
    from issuer.core.token_request import TokenRequest

_DIGEST_VERSION: Final = "spiffe-issuer approval 1"


@dataclass(frozen=True, slots=True)
class AskedFor:
    """Exactly what is asked for. Whether a partial answer would do is no part of it: that only takes less.

    Attributes:
        caller: The SPIFFE ID of who asks, and gets the token.
        application: On whose behalf, as policy resolved it; empty for none.
        audience: The API.
        scopes: All that are asked for, sorted, those that need no approval too.
        ttl: The lifetime asked for, microseconds; ``None`` for the longest that policy gives.
        intent: What the caller says it will do, as JSON.
        bind_certificate: The caller asks for a token bound to its certificate.
        grant_type: How it is asked for.
        policy: The digest of the policy in force.
    """

    caller: str
    application: str
    audience: str
    scopes: tuple[str, ...]
    ttl: int | None
    intent: str
    bind_certificate: bool
    grant_type: str
    policy: str

    @property
    def digest(self) -> str:
        """``sha256:`` and hexadecimal."""
        said = {name: getattr(self, name) for name in self.__slots__}
        text = json.dumps([_DIGEST_VERSION, said], sort_keys=True, separators=(",", ":"))
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def asked_for(caller: SpiffeId, request: TokenRequest, application: str | None, policy: str) -> AskedFor:
    """Return what a request asks for.

    Args:
        caller: Who asks.
        request: For what.
        application: On whose behalf, by rule 5 of :mod:`issuer.core.decide`.
        policy: The digest of the policy in force.
    """
    return AskedFor(
        caller=str(caller),
        application=application or "",
        audience=request.audience,
        scopes=tuple(sorted(request.scopes)),
        ttl=None if request.ttl is None else request.ttl // MICROSECOND,
        intent=intent_text(request.intent),
        bind_certificate=request.bind_certificate,
        grant_type=request.grant_type.value,
        policy=policy,
    )


class Need(NamedTuple):
    """A scope that is not granted without an approval.

    Attributes:
        scope: Which.
        risk: Its risk tier.
        approvers: Patterns over the SPIFFE IDs of those who may approve it.
        quorum: How many persons must.
        valid_for: How long their approval can be used, microseconds.
        uses: For how many tokens.
        human: Each approver must prove to be a person, with evidence.
    """

    scope: str
    risk: str
    approvers: tuple[str, ...]
    quorum: int
    valid_for: int
    uses: int
    human: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked of the approvers; it never changes. What they answer is in :mod:`issuer.core.approval_state`.

    Attributes:
        id: UUIDv7.
        asked: What for.
        needs: The scopes that need an approval, at least one.
        why: What the caller says about why it needs this now.
        owners: Who owns the grants that would give it: they do not approve what is theirs.
        created: When, microseconds since 1970 UTC.
        decision: The id of the decision that said APPROVAL_REQUIRED.
        lifetime: How long the token would have lived then, in seconds.
        min_ttl: How long a token lives at least, in seconds.
        follows: The id of the last request for exactly the same before this one; empty for none.
    """

    id: str
    asked: AskedFor
    needs: tuple[Need, ...]
    why: str
    owners: tuple[str, ...]
    created: int
    decision: str
    lifetime: int
    min_ttl: int
    follows: str = ""

    @property
    def valid_for(self) -> int:
        """How long an answer is waited for, and then how long an approval can be used: the shortest of the needs."""
        return min(need.valid_for for need in self.needs)

    @property
    def uses(self) -> int:
        """For how many tokens an approval is good: the least of the needs."""
        return min(need.uses for need in self.needs)

    @property
    def pending_until(self) -> int:
        """When nobody waits for an answer any more."""
        return self.created + self.valid_for

    @property
    def over_at(self) -> int:
        """When nothing that was answered can matter any more."""
        return self.pending_until + self.valid_for
