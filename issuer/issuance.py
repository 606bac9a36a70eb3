"""The request path, from a verified caller and a valid request to a signed token.

What comes before (TLS, verification of the SVID, parsing) is in ``rpc/pipeline.py`` and ``rpc/messages.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from issuer.core.claims import build_claims, check_claims
from issuer.core.decide import decide
from issuer.core.decision import Denial, Grant
from issuer.core.errors import PolicyDenied, Reason
from issuer.core.renewal import renew_at
from issuer.core.token import encode_payload, mint

if TYPE_CHECKING:
    from datetime import datetime

    from issuer.core.caller import Caller
    from issuer.core.token import Token
    from issuer.core.token_request import TokenRequest
    from issuer.ports import PolicyBook, Signer, TokenIds


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A decision that granted, and the token it led to.

    Attributes:
        token: The signed token; ``None`` when the caller only wanted to know.
        token_id: Its ``jti``; empty without a token.
        decision_id: The decision's identifier.
        grant: What policy allowed.
        expires_at: ``exp``, Unix seconds.
        renew_at: When to ask again, Unix seconds.
    """

    token: Token | None
    token_id: str
    decision_id: str
    grant: Grant
    expires_at: int
    renew_at: int


class Issuance:
    """Issues tokens. Holds the parts; keeps no state of its own between requests.

    Args:
        issuer: The ``iss`` of every token.
        policies: The policy in force.
        signer: The key.
        ids: Where identifiers come from.
        development: Mark every token ``dev: true``, since nobody attested its holder.
    """

    def __init__(
        self, *, issuer: str, policies: PolicyBook, signer: Signer, ids: TokenIds, development: bool
    ) -> None:
        self._issuer = issuer
        self._policies = policies
        self._signer = signer
        self._ids = ids
        self._development = development

    async def issue_token(
        self,
        caller: Caller,
        request: TokenRequest,
        *,
        now: datetime,
        validate_only: bool,
        log_fields: LogFields,
    ) -> IssuedToken:
        """Decide, and issue what was decided.

        1. Take the policy in force, once.
        2. Decide. A denial ends here.
        3. Build the claims, and check the finished payload with other code than built it: no wider, no longer.
        4. Sign, in memory.

        Args:
            caller: Who was verified to call.
            request: What they ask for.
            now: The time of the request.
            validate_only: Decide, but mint nothing.
            log_fields: Receives what the log line should tell. Never the token.

        Raises:
            PolicyDenied: With its reason; nothing was issued.
            TemporarilyUnavailable: The policy or the key is away; nothing was issued.
            ClaimsMismatch: The second check found a difference: a defect of this program, and no token.
        """
        decision_id = self._ids.decision_id(now)
        log_fields |= {"decision_id": decision_id, "audience": request.audience, "scopes": list(request.scopes)}
        decision = decide(self._policies.current(), caller, request, now)
        log_fields |= {"policy": decision.policy_digest, "rules": list(decision.rule_ids)}
        if isinstance(decision, Denial):
            raise PolicyDenied(decision.reason, _explain(decision), decision_id=decision_id, scopes=decision.scopes)
        token_id = "" if validate_only else self._ids.token_id()
        token = None if validate_only else self._mint(decision, caller, request, token_id, now)
        issued_at = int(now.timestamp())
        expires_at = issued_at + int(decision.lifetime.total_seconds())
        log_fields |= {"token_id": token_id, "expires_at": expires_at, "lifetime_bound": decision.lifetime_bound.value}
        return IssuedToken(token, token_id, decision_id, decision, expires_at, renew_at(issued_at, expires_at))
