"""What a resource server holds: it verifies tokens, and keeps the issuer's keys for it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Collection

    from agent_client.verification.key_sources import KeySource
    from agent_client.verification.verified_token import VerifiedToken

KEYS_MAX_STALE = timedelta(hours=1)


class TokenVerifier:
    """Verifies access tokens of one issuer for one audience. Thread-safe, and for any number of event loops."""

    def __init__(
        self,
        issuer: str,
        audience: str,
        *,
        scopes: Collection[str] = (),
        algorithms: Collection[str] = ("ES256", "RS256"),
        leeway: timedelta = timedelta(seconds=5),
        keys: KeySource | None = None,
        keys_max_stale: timedelta = KEYS_MAX_STALE,
        require_binding: bool = False,
        insecure_dev: bool = False,
    ) -> None:
        raise NotImplementedError

    @property
    def issuer(self) -> str:
        """The issuer whose tokens are taken."""
        raise NotImplementedError

    @property
    def audience(self) -> str:
        """The audience that tokens have to be for."""
        raise NotImplementedError

    def verify(
        self,
        token: str,
        *,
        certificate: bytes | None = None,
        scopes: Collection[str] = (),
        applications: Collection[str] | None = None,
    ) -> VerifiedToken:
        """Return what a token says, once it has passed every rule.

        Raises:
            TokenRejected: It breaks a rule.
            InsufficientScope: It lacks a scope.
            ApplicationRejected: It is not for one of the applications.
            KeysUnavailable: There are no keys to verify it with.
        """
        raise NotImplementedError

    async def verify_async(
        self,
        token: str,
        *,
        certificate: bytes | None = None,
        scopes: Collection[str] = (),
        applications: Collection[str] | None = None,
    ) -> VerifiedToken:
        """Do what :meth:`verify` does, without blocking the event loop."""
        raise NotImplementedError

    def warm_up(self) -> None:
        """Fetch the keys now.

        Raises:
            KeysUnavailable: They cannot be had.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Fetch no more keys."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
