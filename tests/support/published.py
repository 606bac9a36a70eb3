"""An issuer as verifiers meet it: its URL, and tokens that its own code minted."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog
from structlog.testing import CapturingLogger

from issuer.core.claims import TokenProfile, build_claims
from issuer.core.metadata import ServerMetadata
from issuer.core.token import compact_token, signing_input
from issuer.public_http.process import PublicHttpProcess
from issuer.public_http.settings import PublicHttpSettings
from issuer.signing.key_file import KeyFileSigner
from issuer.system import SystemClock
from issuer_testing.free_port import free_port
from support.minting import Decision, full_decision

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Published:
    """An issuer whose key set and metadata are served."""

    issuer: str
    signer: KeyFileSigner

    def decision(self) -> Decision:
        """Return a decision of this moment, with every optional claim."""
        now = SystemClock().now()
        profile = TokenProfile(self.issuer, development=True)
        decision = full_decision().with_caller(not_after=now + timedelta(hours=1))
        return replace(decision, profile=profile, now=now)

    def token(self, decision: Decision | None = None) -> str:
        """Mint a token as the request path does."""
        it = decision or self.decision()
        claims = build_claims(it.grant, it.caller, it.profile, it.token_id, it.now)
        to_sign = signing_input(self.signer.algorithm, self.signer.key_id, claims.payload())
        it.check(to_sign)
        return compact_token(to_sign, self.signer.sign(to_sign)).reveal()

    def expired_token(self) -> str:
        """Mint a token that was good two minutes ago."""
        now = self.decision().now - timedelta(minutes=2)
        return self.token(replace(self.decision().with_grant(lifetime=timedelta(seconds=10)), now=now))

    def tampered_token(self) -> str:
        """Return a token in whose claims one bit differs from what was signed."""
        header, payload, signature = self.token().split(".")
        changed = "B" if payload[40] == "A" else "A"
        return f"{header}.{payload[:40]}{changed}{payload[41:]}.{signature}"

    def foreign_token(self, key: Path) -> str:
        """Return a token that another key signed, with that key's own kid; the key is made."""
        return replace(self, signer=KeyFileSigner.open_or_create(key)).token()


@contextmanager
def published_issuer(path: str, key: Path, certificate: tuple[Path, Path] | None = None) -> Iterator[Published]:
    """Serve key set and metadata of an issuer with this path in its URL; by HTTPS with a certificate and its key."""
    signer = KeyFileSigner.open_or_create(key)
    port = free_port()
    settings = PublicHttpSettings(f"127.0.0.1:{port}", *(certificate or ()))
    issuer = f"{settings.scheme}://{'localhost' if certificate else '127.0.0.1'}:{port}{path}"
    http = PublicHttpProcess(
        settings,
        metadata=ServerMetadata(issuer),
        jwks=signer.public_keys(),
        log=structlog.wrap_logger(CapturingLogger(), processors=[]),
    )
    http.start()
    try:
        yield Published(issuer, signer)
    finally:
        http.stop()
