"""The keys from the issuer's URL alone: its metadata says where they are (RFC 8414)."""

from __future__ import annotations

import ssl
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from agent_client.verification.bounded_http import FetchFault, checked_url, fetch_object
from agent_client.verification.key_sources import FETCH_SECONDS, FetchedKeys

if TYPE_CHECKING:
    from os import PathLike
    from urllib.parse import SplitResult

    from agent_client.verification.bounded_http import Document

_CLIENT_ERRORS = range(400, 500)


class MetadataKeys:
    """Discovers the issuer's key set from its URL, and fetches it.

    Metadata is looked for where RFC 8414 section 3.1 puts it, then where OpenID Connect Discovery does, and must name
    exactly this issuer. It is read again with every fetch, so that a key set can move.

    Args:
        issuer: The issuer's URL, exactly as its tokens' ``iss`` spells it: https, or http on loopback.
        ca_file: PEM of the authorities to trust; without it, the system's.
        ssl_context: How to speak TLS, in place of ``ca_file``.
        timeout: Seconds for one fetch in all, resolving names aside.

    Raises:
        ValueError: The URL is not one of an issuer, or both ways to say whom to trust are used.
        OSError: The file of authorities cannot be read.
    """

    def __init__(
        self,
        issuer: str,
        *,
        ca_file: str | PathLike[str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        timeout: float = FETCH_SECONDS,
    ) -> None:
        if ca_file is not None and ssl_context is not None:
            raise ValueError("give ca_file or ssl_context, not both")
        if not 0 < timeout <= FETCH_SECONDS:
            raise ValueError(f"timeout is a positive number of seconds, at most {FETCH_SECONDS:g}")
        self._issuer = issuer
        self._url = _checked_issuer(issuer)
        self._context = ssl_context or ssl.create_default_context(cafile=ca_file)
        self._timeout = timeout

    def fetch(self) -> FetchedKeys:
        """Discover the key set and fetch it.

        Raises:
            FetchFault: Nothing answers in time, or what answers is not this issuer's.
        """
        end = time.monotonic() + self._timeout
        location = self._key_set_url(end)
        key_set = fetch_object(location, self._context, end)
        max_age = None if key_set.max_age is None else timedelta(seconds=key_set.max_age)
        return FetchedKeys(key_set.members, max_age)

    def _key_set_url(self, end: float) -> str:
        metadata = self._metadata(end).members
        if metadata.get("issuer") != self._issuer:
            # RFC 8414 section 3.3: else one issuer could bring another's keys.
            raise FetchFault(f"the metadata of {self._issuer} names another issuer")
        location = metadata.get("jwks_uri")
        if not isinstance(location, str):
            raise FetchFault(f"the metadata of {self._issuer} has no jwks_uri")
        if self._url.scheme == "https" and not location.startswith("https:"):
            raise FetchFault(f"the metadata of {self._issuer} has a jwks_uri that is not https")
        return location

    def _metadata(self, end: float) -> Document:
        oauth, openid = metadata_urls(self._url)
        try:
            return fetch_object(oauth, self._context, end)
        except FetchFault as fault:
            if fault.status not in _CLIENT_ERRORS:
                raise
        return fetch_object(openid, self._context, end)


def metadata_urls(issuer: SplitResult) -> tuple[str, str]:
    """Return where an issuer's metadata may be: by RFC 8414 section 3.1, and by OpenID Connect Discovery section 4."""
    host, path = f"{issuer.scheme}://{issuer.netloc}", issuer.path.removesuffix("/")
    return (
        f"{host}/.well-known/oauth-authorization-server{path}",
        f"{host}{path}/.well-known/openid-configuration",
    )


def _checked_issuer(issuer: str) -> SplitResult:
    try:
        url = checked_url(issuer)
    except ValueError as error:
        raise ValueError(f"issuer {issuer!r} {error}") from None
    if "?" in issuer:  # RFC 8414 section 2
        raise ValueError(f"issuer {issuer!r} has a query, which an issuer's URL has not")
    return url
