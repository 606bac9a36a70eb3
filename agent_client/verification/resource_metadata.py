"""What a client may know of an API before it has a token: OAuth 2.0 Protected Resource Metadata (RFC 9728)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agent_client.loopback import is_loopback
from agent_client.verification.public_paths import is_plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_client.verification.verifier import TokenVerifier

WELL_KNOWN = "/.well-known/oauth-protected-resource"
MEDIA_TYPE = "application/json"
MAX_AGE_SECONDS = 300
"""How long clients keep the document: long enough to spare requests, short enough for a change within one."""


@dataclass(frozen=True, slots=True)
class ResourceMetadata:
    """The metadata of one API. :meth:`of` makes it from what is known already.

    Attributes:
        resource: The API's identifier, an https URL without query and fragment; http on a loopback address. Clients
            ask for tokens with it as their audience, and compare it with the URL they called (section 3.3).
        authorization_servers: The issuers whose tokens are taken.
        scopes_supported: The scopes that make sense to ask for; need not be all of them.
        tls_client_certificate_bound_access_tokens: Tokens bound to the caller's certificate (RFC 8705) are taken.
        resource_name: A name for people to read.
        resource_documentation: The URL of what developers should read.
        resource_signing_alg_values_supported: With what *the API* signs its answers. Not the algorithms of tokens.

    Raises:
        ValueError: The resource is not such a URL, or there is no authorization server.
        TypeError: One string is given for several.
    """

    resource: str
    authorization_servers: Sequence[str]
    scopes_supported: Sequence[str] = ()
    tls_client_certificate_bound_access_tokens: bool = True
    resource_name: str | None = None
    resource_documentation: str | None = None
    resource_signing_alg_values_supported: Sequence[str] = ()

    def __post_init__(self) -> None:
        lists = (self.authorization_servers, self.scopes_supported, self.resource_signing_alg_values_supported)
        if any(isinstance(value, str) for value in lists):
            raise TypeError("authorization_servers, scopes_supported and algorithms are lists")
        if not self.authorization_servers:
            raise ValueError("name the authorization server, which is the issuer")
        _refuse_unfit(self.resource)

    @classmethod
    def of(
        cls, verifier: TokenVerifier, *, scopes_supported: Sequence[str] = (), resource_name: str | None = None
    ) -> ResourceMetadata:
        """Return the metadata of the API that this verifier guards: its audience is the resource.

        Raises:
            ValueError: The audience is no URL; then the metadata has to be written out.
        """
        return cls(verifier.audience, (verifier.issuer,), scopes_supported, resource_name=resource_name)

    @property
    def path(self) -> str:
        """The path at which the document is found: inserted between host and path of the resource (section 3.1)."""
        path = urlsplit(self.resource).path
        return WELL_KNOWN if path == "/" else WELL_KNOWN + path

    @property
    def url(self) -> str:
        """The URL at which the document is found."""
        parts = urlsplit(self.resource)
        return f"{parts.scheme}://{parts.netloc}{self.path}"

    def document(self) -> bytes:
        """Return the document. Members without a value are left out, as section 3.2 wants it."""
        members = {
            "resource": self.resource,
            "authorization_servers": list(self.authorization_servers),
            "scopes_supported": list(self.scopes_supported),
            "bearer_methods_supported": ["header"],
            "resource_signing_alg_values_supported": list(self.resource_signing_alg_values_supported),
            "resource_name": self.resource_name,
            "resource_documentation": self.resource_documentation,
            "tls_client_certificate_bound_access_tokens": self.tls_client_certificate_bound_access_tokens,
        }
        return json.dumps({name: value for name, value in members.items() if value}).encode()


def _refuse_unfit(resource: str) -> None:
    parts = urlsplit(resource)
    secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    if not secure or not parts.hostname:
        raise ValueError(f"the resource is an https URL (RFC 9728 section 1.2), which {resource!r} is not")
    if "?" in resource or "#" in resource or "@" in parts.netloc:
        raise ValueError("the resource has no query, no fragment and no user")
    if parts.path and not is_plain(parts.path):
        raise ValueError("the path of the resource is of plain segments, without dots and %")
