"""What a resource server holds: it verifies tokens, and keeps the issuer's keys for it."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from agent_client.clock import utc_now
from agent_client.verification.algorithms import ALGORITHMS
from agent_client.verification.key_store import KeyStore
from agent_client.verification.metadata_keys import MetadataKeys
from agent_client.verification.token_rules import Demand, Expectations, read_token, verified_token

if TYPE_CHECKING:
    from collections.abc import Collection

    from agent_client.verification.algorithms import VerificationKey
    from agent_client.verification.compact import Header, UnverifiedToken
    from agent_client.verification.key_sources import KeySource
    from agent_client.verification.revocations_state import RevocationCheck
    from agent_client.verification.status_lists import StatusLists
    from agent_client.verification.verified_token import VerifiedToken

DEFAULT_LEEWAY = timedelta(seconds=5)
MAX_LEEWAY = timedelta(minutes=1)
"""Tokens live for minutes: more would be a good part of a lifetime."""
KEYS_MAX_STALE = timedelta(hours=1)
"""While the issuer is away it issues nothing, so its keys are of use for as long as the longest token lives. An hour is
long for such a token, and short for a key that the issuer would have withdrawn."""
SHORTEST_MAX_STALE = timedelta(seconds=1)
"""Keys are fetched again after half of it at the latest."""
LONGEST_MAX_STALE = timedelta(days=1)
MAX_KNOWN_HEADERS = 64
"""One for each key that signs, in the issuer's one spelling: a process sees a handful in its life."""
_logger = logging.getLogger("agent_client.verification")


class TokenVerifier:
    """Verifies access tokens of one issuer for one audience. Thread-safe, and for any number of event loops.

    The rules are those of :mod:`agent_client.verification.token_rules`. Nothing is fetched before the first token, or
    :meth:`warm_up`. Keys are kept as :mod:`agent_client.verification.key_cache` says. Close the verifier, or use it
    with ``with``, to forget them.

    Args:
        issuer: The issuer's URL, exactly as its metadata and the tokens' ``iss`` spell it.
        audience: The one ``aud`` that is taken, exactly: the name that this API has in the issuer's policy.
        scopes: Scopes that every token must have.
        algorithms: The ``alg`` values that are taken, of ES256 and RS256.
        leeway: By how much this host's clock and the issuer's may differ, at most a minute.
        keys: Where the issuer's keys come from; without it, from the metadata at the issuer's URL.
        keys_max_stale: How long keys are used after they were fetched, while the issuer is away; at most a day.
        require_binding: Refuse tokens that are bound to no certificate (RFC 8705 section 3).
        insecure_dev: Take tokens of the embedded development authority, which attests nobody. For tests.
        revocations: Knows which tokens are revoked, and refuses them; without it, that is not looked at. It stays the
            caller's to close. One may serve several verifiers.
        status: Looks up the tokens that name a status list, and refuses those that were revoked; without it, that is
            not looked at. One may serve several verifiers.

    Raises:
        ValueError: An argument is out of its bounds.
    """

    def __init__(
        self,
        issuer: str,
        audience: str,
        *,
        scopes: Collection[str] = (),
        algorithms: Collection[str] = ("ES256", "RS256"),
        leeway: timedelta = DEFAULT_LEEWAY,
        keys: KeySource | None = None,
        keys_max_stale: timedelta = KEYS_MAX_STALE,
        require_binding: bool = False,
        insecure_dev: bool = False,
        revocations: RevocationCheck | None = None,
        status: StatusLists | None = None,
    ) -> None:
        if not issuer or not audience:
            raise ValueError("a verifier needs an issuer and an audience")
        if not timedelta() <= leeway <= MAX_LEEWAY:
            raise ValueError(f"leeway is between 0 and {MAX_LEEWAY.total_seconds():g} seconds")
        if not SHORTEST_MAX_STALE <= keys_max_stale <= LONGEST_MAX_STALE:
            raise ValueError("keys_max_stale is between a second and a day")
        allowed = frozenset(_names(algorithms, "algorithms"))
        if not allowed or not allowed <= ALGORITHMS:
            raise ValueError(f"algorithms are of {', '.join(sorted(ALGORITHMS))}")
        if insecure_dev:
            _logger.warning("tokens of development authorities are taken, which attest nobody")
        self._expected = Expectations(
            issuer, audience, allowed, leeway.total_seconds(), require_binding, insecure_dev=insecure_dev
        )
        self._scopes = _names(scopes, "scopes")
        self._keys = KeyStore(keys or MetadataKeys(issuer), keys_max_stale.total_seconds())
        self._revocations = revocations
        self._status = status
        self._headers: dict[bytes, Header] = {}

    @property
    def issuer(self) -> str:
        """The issuer whose tokens are taken."""
        return self._expected.issuer

    @property
    def audience(self) -> str:
        """The audience that tokens have to be for."""
        return self._expected.audience

    def verify(
        self,
        token: str,
        *,
        certificate: bytes | None = None,
        scopes: Collection[str] = (),
        applications: Collection[str] | None = None,
    ) -> VerifiedToken:
        """Return what a token says, once it has passed every rule.

        It takes CPU time only, but for the first token, and for one with a ``kid`` that is not known: these wait for a
        fetch of the keys. Whether the token was revoked is checked by ``revocations`` and ``status`` alone; the latter
        waits for a list that is not known yet, or late. That it was not seen before is **not** checked.

        Args:
            token: The token, without its scheme.
            certificate: The DER of the leaf that the caller presented by TLS; ``None`` when it presented none. Whether
                it is valid is for TLS to say; a bound token is refused without it or with another.
            scopes: Scopes that are needed beside those of every token.
            applications: On whose behalf the caller may act; ``None`` when that does not matter, nobody when empty.

        Raises:
            TokenRejected: It breaks a rule.
            InsufficientScope: It lacks a scope.
            ApplicationRejected: It is not for one of the applications.
            KeysUnavailable: There are no keys to verify it with.
            RevocationsUnavailable: Whether it was revoked is not known, and has to be.
        """
        demand = self._demand(certificate, scopes, applications)
        unverified = read_token(token, self._expected.algorithms, self._headers)
        verified = self._verified(unverified, self._keys.get(unverified.header.key_id), demand)
        if self._status is not None:  # 16
            self._status.refuse_revoked(verified, self._keys)
        return verified

    async def verify_async(
        self,
        token: str,
        *,
        certificate: bytes | None = None,
        scopes: Collection[str] = (),
        applications: Collection[str] | None = None,
    ) -> VerifiedToken:
        """Do what :meth:`verify` does without blocking the event loop: while keys are fetched, other tasks run."""
        demand = self._demand(certificate, scopes, applications)
        unverified = read_token(token, self._expected.algorithms, self._headers)
        verified = self._verified(unverified, await self._keys.get_async(unverified.header.key_id), demand)
        if self._status is not None:  # 16
            await self._status.refuse_revoked_async(verified, self._keys)
        return verified

    def warm_up(self) -> None:
        """Fetch the keys now, so that the first token need not wait: at the start of a server, before it is ready.

        Raises:
            KeysUnavailable: They cannot be had.
        """
        self._keys.warm_up()

    def close(self) -> None:
        """Forget the keys and fetch no more: from now on every token is :class:`KeysUnavailable`.

        A fetch under way ends by itself, within seconds. Closing twice does nothing.
        """
        self._keys.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def _demand(
        self, certificate: bytes | None, scopes: Collection[str], applications: Collection[str] | None
    ) -> Demand:
        needed = tuple(dict.fromkeys((*self._scopes, *_names(scopes, "scopes")))) if scopes else self._scopes
        return Demand(certificate, needed, None if applications is None else _names(applications, "applications"))

    def _verified(self, unverified: UnverifiedToken, key: VerificationKey, demand: Demand) -> VerifiedToken:
        verified = verified_token(unverified, key, self._expected, demand, utc_now())
        if self._revocations is not None:  # 15
            self._revocations.refuse_revoked(verified, unverified.header.key_id)
        # Only headers that the issuer signed are remembered, so nobody else can fill this.
        if unverified.encoded_header not in self._headers and len(self._headers) < MAX_KNOWN_HEADERS:
            self._headers[unverified.encoded_header] = unverified.header
        return verified


def _names(names: Collection[str], what: str) -> tuple[str, ...]:
    if isinstance(names, str):
        raise TypeError(f"{what} are several names: write a list, not one string")
    return tuple(names)
