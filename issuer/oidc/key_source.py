"""Where the keys of an OIDC issuer come from: its ``jwks_uri``, from the configuration or from its own metadata.

Only two hosts are ever asked: the issuer's, and that of a ``jwks_uri`` which the configuration names. Metadata cannot
send us elsewhere, and no redirect is followed, so an issuer that was taken over cannot make us reach into our own
network. Time and size are bounded by :mod:`agent_client.verification.bounded_http`.
"""

from __future__ import annotations

import ssl
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from agent_client.verification.bounded_http import FetchFault, fetch_object
from agent_client.verification.key_sources import FetchedKeys
from agent_client.verification.metadata_keys import metadata_urls

if TYPE_CHECKING:
    from collections.abc import Mapping

    from issuer.oidc.settings import OidcIssuerSettings

_ALGORITHM_OF_KIND: Final = {"RSA": "RS256", "EC": "ES256"}
"""What a key without ``alg`` is used for (RFC 7517 section 4.4 has it optional); large providers leave it out."""


class OidcKeySource:
    """Fetches the keys of one issuer.

    Args:
        settings: Which one.

    Raises:
        OSError: The file of authorities cannot be read.
    """

    def __init__(self, settings: OidcIssuerSettings) -> None:
        self._settings = settings
        self._context = ssl.create_default_context(cafile=settings.ca_file)

    def fetch(self) -> FetchedKeys:
        """Fetch the key set, of the allowed algorithms.

        Raises:
            FetchFault: Nothing answers in time, or what answers is not this issuer's.
        """
        end = time.monotonic() + self._settings.timeout.total_seconds()
        document = fetch_object(self._settings.jwks_uri or self._discovered(end), self._context, end)
        max_age = None if document.max_age is None else timedelta(seconds=document.max_age)
        return FetchedKeys(allowed_keys(document.members, self._settings.algorithms), max_age)

    def _discovered(self, end: float) -> str:
        issuer = self._settings.url
        _, openid = metadata_urls(urlsplit(issuer))
        metadata = fetch_object(openid, self._context, end).members
        if metadata.get("issuer") != issuer:  # OpenID Connect Discovery section 4.3
            raise FetchFault(f"the metadata of {issuer} names another issuer")
        location = metadata.get("jwks_uri")
        if not isinstance(location, str):
            raise FetchFault(f"the metadata of {issuer} has no jwks_uri")
        if not location.startswith(f"{urlsplit(issuer).scheme}://{urlsplit(issuer).netloc}/"):
            raise FetchFault(f"the metadata of {issuer} has its keys at another host: set jwks_uri to allow that")
        return location


def allowed_keys(jwks: Mapping[str, Any], algorithms: frozenset[str]) -> dict[str, Any]:
    """Return a JWK Set with the keys of allowed algorithms alone, each of which says what it is for.

    What is no JWK stays, for :func:`agent_client.verification.key_set.read_key_set` to refuse.
    """
    entries = jwks.get("keys")
    if not isinstance(entries, list):
        return dict(jwks)
    named = [_named(entry) if isinstance(entry, dict) else entry for entry in entries]
    return {"keys": [entry for entry in named if not isinstance(entry, dict) or entry["alg"] in algorithms]}


def _named(entry: dict[str, Any]) -> dict[str, Any]:
    kind = entry.get("kty")
    usual = _ALGORITHM_OF_KIND.get(kind, "") if isinstance(kind, str) else ""
    algorithm = entry.get("alg", usual)
    return {"use": "sig", **entry, "alg": algorithm if isinstance(algorithm, str) else ""}
