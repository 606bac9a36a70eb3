"""The OIDC issuers that the configuration names, and the verification of their tokens.

Keys are kept by :class:`agent_client.verification.key_store.KeyStore`, one for each issuer: one fetch at a time, a
``kid`` that is not known costs one fetch in ten seconds, and an issuer that is away is done without for a bounded time.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from agent_client.verification.errors import KeysUnavailable, TokenRejected
from agent_client.verification.key_store import KeyStore
from issuer.core.assertion import AssertionFault, AssertionRefused, assertion_of
from issuer.core.errors import Reason, TemporarilyUnavailable
from issuer.oidc.key_source import OidcKeySource
from issuer.oidc.signed_text import ID_TOKEN_TYPES, read_signed_text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from agent_client.verification.algorithms import VerificationKey
    from issuer.core.assertion import Assertion
    from issuer.oidc.settings import OidcIssuerSettings
    from issuer.oidc.signed_text import SignedText


class OidcNotConfigured(Exception):
    """A setting cannot be used. The message is for a person."""


class _Issuer(NamedTuple):
    settings: OidcIssuerSettings
    keys: KeyStore


class OidcIssuers:
    """Verifies tokens of configured issuers. Nothing is fetched before the first token of an issuer comes.

    Args:
        settings: The issuers. Two may share a URL, with different audiences.

    Raises:
        OidcNotConfigured: A file of authorities cannot be read.
    """

    def __init__(self, settings: Iterable[OidcIssuerSettings]) -> None:
        self._issuers = tuple(_Issuer(each, _key_store(each)) for each in settings)

    async def verify(self, text: str, now: datetime, *, types: frozenset[str] = ID_TOKEN_TYPES) -> Assertion:
        """Return what a token says.

        1. Take it apart, strictly; its ``iss`` and ``aud`` choose the issuer, and prove nothing.
        2. Find the key that it names among those that *this* issuer publishes.
        3. Hold the algorithm to the allowed ones and to the key's own, and the signature to the key.
        4. Hold the claims to the rules of :mod:`issuer.core.assertion`.

        Not checked, for the caller to see to: ``nonce``, how old ``auth_time`` is, that it is used once, who the
        subject is to us.

        Args:
            text: The token.
            now: The time of the request.
            types: What its ``typ`` may be, in lower case; empty for none.

        Raises:
            AssertionRefused: It does not count; another try gives the same.
            TemporarilyUnavailable: OIDC_ISSUER_UNAVAILABLE: the keys cannot be had now.
        """
        token = read_signed_text(text)
        if token.type not in types:
            raise AssertionRefused(AssertionFault.TYPE_WRONG)
        issuer = self._issuer_of(token)
        if token.algorithm not in issuer.settings.algorithms:  # before anything is fetched for it
            raise AssertionRefused(AssertionFault.ALGORITHM_NOT_ALLOWED)
        token.check_signature(await _key(issuer, token.key_id), issuer.settings.algorithms)
        return assertion_of(
            token.claims,
            source=issuer.settings.name,
            issuer=issuer.settings.url,
            audience=issuer.settings.audience,
            fingerprint=hashlib.sha256(text.encode("ascii")).hexdigest(),
            now=int(now.timestamp()),
        )

    def close(self) -> None:
        """Forget the keys and fetch no more."""
        for each in self._issuers:
            each.keys.close()

    def _issuer_of(self, token: SignedText) -> _Issuer:
        claimed, audience = token.claims.get("iss"), token.claims.get("aud")
        ours = [each for each in self._issuers if each.settings.url == claimed]
        if not ours:
            raise AssertionRefused(AssertionFault.ISSUER_UNKNOWN)
        for each in ours:
            if audience in (each.settings.audience, [each.settings.audience]):
                return each
        raise AssertionRefused(AssertionFault.AUDIENCE_WRONG)


def _key_store(settings: OidcIssuerSettings) -> KeyStore:
    try:
        source = OidcKeySource(settings)
    except OSError as error:  # ssl.SSLError among them: there is no certificate in it
        raise OidcNotConfigured(f"[[oidc.issuers]] {settings.name}: ca_file: cannot be used: {error}") from error
    return KeyStore(source, settings.max_key_age.total_seconds())


async def _key(issuer: _Issuer, key_id: str) -> VerificationKey:
    try:
        return await issuer.keys.get_async(key_id)
    except TokenRejected:
        raise AssertionRefused(AssertionFault.KEY_UNKNOWN) from None
    except KeysUnavailable as error:
        text = f"the keys of the OIDC issuer {issuer.settings.name!r} cannot be had now"
        raise TemporarilyUnavailable(Reason.OIDC_ISSUER_UNAVAILABLE, text) from error
