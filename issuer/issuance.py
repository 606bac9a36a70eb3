"""The request path, from a verified caller and a valid request to a signed token.

What comes before (TLS, verification of the SVID, parsing) is in ``rpc/pipeline.py`` and ``rpc/messages.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from issuer.core.access import facts_needed_to_list, list_access
from issuer.core.claims import Claims, build_claims
from issuer.core.claims_check import check_claims
from issuer.core.decide import decide
from issuer.core.decision import Denial, Grant
from issuer.core.denial_text import explain
from issuer.core.errors import FieldViolation, InvalidTokenRequest, IssuerError, PolicyDenied, Reason
from issuer.core.facts_needed import facts_needed
from issuer.core.renewal import renew_at
from issuer.core.token import compact_token, signing_input

if TYPE_CHECKING:
    from datetime import datetime

    from issuer.core.access import Access
    from issuer.core.caller import Caller
    from issuer.core.claims import TokenProfile
    from issuer.core.facts import FactKey, Facts
    from issuer.core.policy import Policy
    from issuer.core.token import Token
    from issuer.core.token_request import TokenRequest
    from issuer.ports import FactBook, PolicyBook, Signer, TokenIds

LogFields = dict[str, "str | int | float | bool | list[str] | None"]
"""What a step adds to the log line of its call; never a secret."""


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
        profile: What every token of this issuer says.
        policies: The policy in force.
        facts: What feeders told.
        signer: The key.
        ids: Where identifiers come from.
    """

    def __init__(
        self, *, profile: TokenProfile, policies: PolicyBook, facts: FactBook, signer: Signer, ids: TokenIds
    ) -> None:
        self._profile = profile
        self._policies = policies
        self._facts = facts
        self._signer = signer
        self._ids = ids

    async def issue_token(
        self, caller: Caller, request: TokenRequest, *, now: datetime, validate_only: bool, log_fields: LogFields
    ) -> IssuedToken:
        """Decide, and issue what was decided.

        1. Take the policy in force, once.
        2. Fetch the facts that its rules about this request mention; what cannot be had in time is missing.
        3. Decide. A denial ends here.
        4. Build the claims.
        5. Check the bytes about to be signed with other code than built them: no wider, no longer.
        6. Sign, in memory.

        Args:
            caller: Who was verified to call.
            request: What they ask for.
            now: The time of the request.
            validate_only: Decide, but mint nothing.
            log_fields: Receives what the log line should tell.

        Raises:
            PolicyDenied: With its reason; nothing was issued.
            InvalidTokenRequest: The lifetime asked for is below the shortest that policy issues.
            TemporarilyUnavailable: The policy or the key is away; nothing was issued.
            ClaimsMismatchError: Step 5 found a difference: a defect of this program, and no token.
        """
        decision_id = self._ids.decision_id(now)
        log_fields |= {"decision_id": decision_id, "audience": request.audience, "scopes": list(request.scopes)}
        policy = self._policies.current()
        facts = await self._known_facts(facts_needed(policy, caller, request), policy, caller, now)
        decision = decide(policy, caller, request, facts, now)
        log_fields |= _considered(decision)
        if isinstance(decision, Denial):
            raise _refusal(decision, decision_id)
        token_id = self._ids.token_id()
        claims = build_claims(decision, caller, self._profile, token_id, now)
        token = None if validate_only else self._mint(claims, decision, caller, request, now)
        log_fields |= _outcome(claims, decision, token)
        return IssuedToken(
            token=token,
            token_id=token_id if token else "",
            decision_id=decision_id,
            grant=decision,
            expires_at=claims.expires_at,
            renew_at=renew_at(claims.issued_at, claims.expires_at),
        )

    async def list_access(self, caller: Caller, *, now: datetime) -> tuple[Access, ...]:
        """Return what policy lets the caller ask for now, and what is missing for the rest.

        Raises:
            TemporarilyUnavailable: The policy is away.
        """
        policy = self._policies.current()
        facts = await self._known_facts(facts_needed_to_list(policy, caller), policy, caller, now)
        return list_access(policy, caller, facts, now)

    async def _known_facts(self, keys: frozenset[FactKey], policy: Policy, caller: Caller, now: datetime) -> Facts:
        if not keys:
            return {}
        return await self._facts.known(keys, fact_types=policy.fact_types, now=now, caller=caller)

    def _mint(self, claims: Claims, grant: Grant, caller: Caller, request: TokenRequest, now: datetime) -> Token:
        to_sign = signing_input(self._signer.algorithm, self._signer.key_id, claims.payload())
        check_claims(
            to_sign,
            grant=grant,
            caller=caller,
            request=request,
            profile=self._profile,
            token_id=claims.token_id,
            now=now,
        )
        return compact_token(to_sign, self._signer.sign(to_sign))


def _refusal(denial: Denial, decision_id: str) -> IssuerError:
    if denial.reason is Reason.REQUEST_INVALID:
        # Only a ttl below the policy's shortest makes a well-formed request invalid.
        return InvalidTokenRequest((FieldViolation("ttl", explain(denial)),))
    return PolicyDenied(denial.reason, explain(denial), decision_id=decision_id, scopes=denial.scopes)


def _considered(decision: Grant | Denial) -> LogFields:
    """Return what led to the decision: the policy, its rules, what was known and what was not."""
    considered: LogFields = {"policy": decision.policy_digest, "rules": list(decision.rule_ids)}
    if decision.facts:
        considered["facts"] = [f"{fact.type} {fact.subject} by {fact.source}" for fact in decision.facts]
    if decision.missing:
        considered["missing"] = list(decision.missing)
    if (shadow := decision.shadow) is not None:
        considered["audit"] = (
            f"would refuse: {shadow.reason}" if shadow.reason else f"would grant {' '.join(shadow.scopes)}"
        )
        considered["audit_rules"] = list(shadow.rule_ids)
    return considered


def _outcome(claims: Claims, grant: Grant, token: Token | None) -> LogFields:
    return {
        "granted": list(grant.scopes),
        "application": grant.application,
        "lifetime_s": claims.expires_at - claims.issued_at,
        "lifetime_bound": grant.lifetime_bound.value,
        "lifetime_rule": grant.lifetime_rule or None,
        "grant_type": grant.grant_type.value,
        "legacy": grant.legacy,
        "token_id": claims.token_id if token else None,
        "token_sha256": token.sha256.hex() if token else None,
    }
