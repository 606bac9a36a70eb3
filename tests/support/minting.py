"""One ordinary decision, whole: a base that a test changes in one place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from issuer.core.caller import Caller
from issuer.core.claims import TokenProfile, build_claims
from issuer.core.claims_check import check_claims
from issuer.core.decision import Grant, LifetimeBound
from issuer.core.spiffe_id import SpiffeId
from issuer.core.token import signing_input
from issuer.core.token_request import GrantType, TokenRequest

NOW = datetime(2026, 11, 24, 12, 0, 0, 900_000, tzinfo=UTC)
NOW_SECONDS = 1795521600
KEY_ID = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
AUDIENCE = "https://ledger.prod.example"
SCOPES = ("ledger.read", "ledger.write")


@dataclass(frozen=True)
class Decision:
    """Everything that a token is made from."""

    grant: Grant
    caller: Caller
    request: TokenRequest
    profile: TokenProfile
    token_id: str = "token-1"
    now: datetime = NOW
    status: int | None = None

    def payload(self) -> bytes:
        claims = build_claims(self.grant, self.caller, self.profile, self.token_id, self.now, status=self.status)
        return claims.payload()

    def check(self, to_sign: bytes) -> None:
        check_claims(
            to_sign,
            grant=self.grant,
            caller=self.caller,
            request=self.request,
            profile=self.profile,
            token_id=self.token_id,
            now=self.now,
            status=self.status,
        )

    def check_payload(self, payload: bytes) -> None:
        self.check(signing_input("ES256", KEY_ID, payload))

    def with_grant(self, **changes: object) -> Decision:
        return replace(self, grant=replace(self.grant, **changes))  # type: ignore[arg-type]

    def with_request(self, **changes: object) -> Decision:
        return replace(self, request=replace(self.request, **changes))  # type: ignore[arg-type]

    def with_caller(self, **changes: object) -> Decision:
        return replace(self, caller=replace(self.caller, **changes))  # type: ignore[arg-type]


def plain_decision() -> Decision:
    """A token without any optional claim."""
    return Decision(
        grant=Grant(
            audience=AUDIENCE,
            scopes=SCOPES,
            lifetime=timedelta(seconds=90),
            lifetime_bound=LifetimeBound.GRANT,
            application=None,
            bind_certificate=False,
            rule_ids=("settlement-writes-ledger",),
            refused_scopes=(),
            policy_digest="sha256:0",
            lifetime_rule="settlement",
            grant_type=GrantType.CLIENT_CREDENTIALS,
        ),
        caller=Caller(
            spiffe_id=SpiffeId.parse("spiffe://prod.example/ns/payments/sa/settler"),
            certificate_sha256=bytes(range(224, 256)),
            serial_number=7,
            not_after=NOW + timedelta(hours=1),
        ),
        request=TokenRequest(audience=AUDIENCE, scopes=SCOPES),
        profile=TokenProfile("https://issuer.prod.example"),
    )


def full_decision() -> Decision:
    """A token with every optional claim."""
    plain = plain_decision().with_grant(application="payments", bind_certificate=True)
    full = plain.with_request(application="payments", bind_certificate=True, ttl=timedelta(seconds=90))
    return replace(full, profile=TokenProfile("https://issuer.prod.example", development=True))
