"""What a token of an intent rests on: the right of who registered it, as it was then and as it is now.

The registrar is not there when its intent is redeemed. So it is decided about as if it were, under the policy, the
facts and the revocations of that moment; what is looked at of an SVID is the consumer's, who will hold the token. Then
it is decided about the consumer, and the token is no wider than any of the three.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from issuer.core.approval_state import Refusal
from issuer.core.caller import Caller
from issuer.core.errors import Reason
from issuer.core.instants import MICROSECOND, microseconds
from issuer.core.origin import Actor, Origin, OriginKind
from issuer.core.revocation import Issued
from issuer.core.spiffe_id import SpiffeId
from issuer.core.token_request import GrantType, TokenRequest

if TYPE_CHECKING:
    from datetime import datetime

    from issuer.core.decision import Grant
    from issuer.core.intent_registration import Registration
    from issuer.core.intent_state import RegisteredIntent


@dataclass(frozen=True, slots=True)
class RedemptionWanted:
    """What a consumer asks for.

    Attributes:
        scopes: Only these of the intent's; none for all.
        ttl: The lifetime asked for, positive; ``None`` for the longest that there is.
        bind_certificate: It asks for a token that is bound to its certificate.
        allow_partial: It takes what is granted, rather than all or nothing.
        parameters: The digest of the parameters that it was handed; empty does not compare.
    """

    scopes: tuple[str, ...] = ()
    ttl: timedelta | None = None
    bind_certificate: bool = False
    allow_partial: bool = False
    parameters: str = ""

    def request(self, registration: Registration) -> TokenRequest:
        """Return the token that is asked for: as the intent was registered, but for what is asked otherwise."""
        return TokenRequest(
            audience=registration.audience,
            scopes=self.scopes or registration.scopes,
            ttl=self.ttl,
            application=registration.application or None,
            bind_certificate=self.bind_certificate,
            allow_partial=self.allow_partial,
            intent=registration.intent,
            grant_type=GrantType.INTENT,
        )


def stand_in(registration: Registration, consumer: Caller) -> Caller:
    """Return the registrar, to decide about it in its absence: no certificate, and the rest of the consumer's SVID."""
    return Caller(SpiffeId.parse(registration.registrar), bytes(32), 0, consumer.not_after)


def request_of_registrar(registration: Registration, wanted: TokenRequest) -> TokenRequest:
    """Return what the registrar would ask for itself, as far as the consumer wants it.

    Args:
        registration: What was registered.
        wanted: What the consumer asks for.
    """
    scopes = tuple(scope for scope in registration.scopes if scope in wanted.scopes)
    return TokenRequest(
        audience=registration.audience,
        scopes=scopes or registration.scopes,
        ttl=None if registration.ttl is None else timedelta(microseconds=registration.ttl),
        application=registration.application or None,
        bind_certificate=registration.bind,
        allow_partial=True,
        intent=registration.intent,
        grant_type=GrantType.INTENT,
    )


def origin_of(intent: RegisteredIntent, could: Grant, consumer: SpiffeId, now: datetime) -> Origin | Refusal:
    """Return what a token of an intent rests on, or why there is none.

    Args:
        intent: The intent. That it can be redeemed by this consumer now is for the caller to know.
        could: What the registrar could have now.
        consumer: Who redeems it.
        now: When.
    """
    registration, time = intent.registration, microseconds(now)
    if (could.application or "") != registration.application:
        return Refusal(Reason.REGISTRAR_NOT_ALLOWED, "who registered this acts for another application now")
    lifetime = min(could.lifetime // MICROSECOND, registration.lifetime * 1_000_000)
    return Origin(
        kind=OriginKind.INTENT,
        id=intent.id,
        number=intent.number + 1,
        subject=registration.registrar,
        actors=(Actor(str(consumer), f"spiffe://{consumer.trust_domain}"),),
        ancestors=(_right_now(registration, could, time), registration.right),
        scopes=could.scopes,
        until=min(registration.expires_at, time + lifetime),
        bind=registration.bind or could.bind_certificate,
        transaction=registration.transaction,
        details=registration.details,
        over_at=registration.over_at,
        application=registration.application,
    )


def _right_now(registration: Registration, could: Grant, now: int) -> Issued:
    """Return the token that the registrar could have now, as far as a revocation can tell it from others."""
    return Issued(
        caller=SpiffeId.parse(registration.registrar),
        audience=could.audience,
        application=could.application or "",
        rules=could.rule_ids,
        policy=could.policy_digest,
        key="",
        time=now,
    )
