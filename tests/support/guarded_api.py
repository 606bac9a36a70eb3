"""An API with callers: tokens that the issuer's own code minted, and the verifier that knows the issuer's keys."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from agent_client.verification import FetchedKeys, TokenVerifier
from issuer.core.spiffe_id import SpiffeId
from issuer.core.token_request import TokenRequest
from issuer.signing.key_file import KeyFileSigner
from issuer.system import SystemClock
from support.minting import AUDIENCE, plain_decision
from support.published import Published

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ISSUER = "https://issuer.prod.example"
READ, WRITE = "ledger.read", "ledger.write"
SETTLER = "spiffe://prod.example/ns/payments/sa/settler"


@dataclass(frozen=True)
class KeysAtHand:
    """A source that has the issuer's keys without asking anybody."""

    signer: KeyFileSigner

    def fetch(self) -> FetchedKeys:
        return FetchedKeys(json.loads(self.signer.public_keys().jwks), timedelta(minutes=5))


class KeysAway:
    """A source that cannot reach the issuer."""

    def fetch(self) -> FetchedKeys:
        raise ConnectionError("10.9.8.7 is not there")


@dataclass(frozen=True)
class Api:
    """One API, ready to verify."""

    published: Published
    verifier: TokenVerifier

    def token(
        self,
        *scopes: str,
        audience: str = AUDIENCE,
        subject: str = SETTLER,
        token_id: str = "token-1",  # noqa: S107 - an identifier, not a secret
        lifetime: timedelta = timedelta(seconds=90),
        age: timedelta = timedelta(0),
        bound_to: bytes | None = None,
        application: str | None = None,
    ) -> str:
        """Mint a token as the request path does.

        ``bound_to`` is the SHA-256 of a certificate, ``age`` how long ago it was issued.
        """
        allowed = scopes or (READ,)
        now = SystemClock().now() - age
        base = plain_decision().with_grant(
            audience=audience,
            scopes=allowed,
            lifetime=lifetime,
            bind_certificate=bound_to is not None,
            application=application,
        )
        caller = replace(
            base.caller,
            spiffe_id=SpiffeId.parse(subject),
            not_after=now + timedelta(hours=1),
            certificate_sha256=bound_to or base.caller.certificate_sha256,
        )
        request = TokenRequest(
            audience=audience, scopes=allowed, bind_certificate=bound_to is not None, application=application
        )
        decision = replace(base, caller=caller, request=request, token_id=token_id, now=now)
        return self.published.token(replace(decision, profile=replace(decision.profile, issuer=self.published.issuer)))

    def expired_token(self) -> str:
        return self.token(lifetime=timedelta(seconds=30), age=timedelta(minutes=2))


@contextmanager
def api(key: Path) -> Iterator[Api]:
    """Return an API whose verifier has the issuer's keys."""
    signer = KeyFileSigner.open_or_create(key)
    with TokenVerifier(ISSUER, AUDIENCE, keys=KeysAtHand(signer)) as verifier:
        verifier.warm_up()
        yield Api(Published(ISSUER, signer), verifier)
