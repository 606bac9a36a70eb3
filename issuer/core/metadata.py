"""The issuer's discovery documents (RFC 8414, OpenID Connect Discovery 1.0), and where they are found."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from urllib.parse import urlsplit

JWKS_PATH = "/.well-known/jwks.json"
OAUTH_PATH = "/.well-known/oauth-authorization-server"
INTROSPECTION_PATH = "/introspect"
REVOCATION_PATH = "/revoke"
OPENID_PATH = "/.well-known/openid-configuration"
STATUS_LISTS_PATH = "/status-lists"
"""Where status lists are named; each is served below, under its number."""


def status_list_uri(issuer: str, name: object) -> str:
    """Return the URI of a status list of an issuer: its ``sub``, and what tokens call it."""
    return f"{issuer}{STATUS_LISTS_PATH}/{name}"


@dataclass(frozen=True, slots=True)
class ServerMetadata:
    """What a verifier learns from the issuer's URL alone.

    It says what Kubernetes says for its issuer and nothing that is untrue: there is no authorization or token endpoint
    to name, for tokens are asked for by gRPC. Introspection and revocation are named where they are served over HTTP.

    Attributes:
        issuer: The ``iss`` of every token, without a trailing slash. Its form is checked where it is configured.
        algorithms: The JWS algorithms of the key set.
        oauth_url: What the endpoints of introspection and revocation begin with; empty where they are not served.
        document: Both documents' content, UTF-8 JSON.
        path: The path of the issuer's URL, empty or ``/...``; a proxy in front may leave it in place or strip it.
    """

    issuer: str
    algorithms: tuple[str, ...] = ("ES256",)
    oauth_url: str = ""
    document: bytes = field(init=False, repr=False)
    path: str = field(init=False)

    def __post_init__(self) -> None:
        """Render the document once."""
        object.__setattr__(self, "path", urlsplit(self.issuer).path)
        object.__setattr__(self, "document", json.dumps(self._members(), separators=(",", ":")).encode())

    def _members(self) -> dict[str, object]:
        return {
            "issuer": self.issuer,
            "jwks_uri": self.issuer + JWKS_PATH,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": list(self.algorithms),
            "status_list_aggregation_endpoint": self.issuer + STATUS_LISTS_PATH,  # status-list-20 section 9.1
            **(self._endpoints() if self.oauth_url else {}),
        }

    def _endpoints(self) -> dict[str, object]:
        """Return where callers that present their SVID are served: RFC 8705 section 2.1, by the URI in it."""
        return {
            "introspection_endpoint": self.oauth_url + INTROSPECTION_PATH,
            "introspection_endpoint_auth_methods_supported": ["tls_client_auth"],
            "revocation_endpoint": self.oauth_url + REVOCATION_PATH,
            "revocation_endpoint_auth_methods_supported": ["tls_client_auth"],
        }

    def document_paths(self) -> tuple[str, ...]:
        """Return every path under which verifiers look for the document, each once.

        RFC 8414 section 3.1 inserts the well-known name between host and path, OpenID Connect Discovery section 4
        appends it; the plain names serve a proxy that strips the issuer's path.
        """
        return tuple(
            dict.fromkeys(
                (
                    OAUTH_PATH,
                    OAUTH_PATH + self.path,
                    OPENID_PATH,
                    OPENID_PATH + self.path,
                    self.path + OPENID_PATH,
                )
            )
        )

    def status_list_paths(self) -> tuple[str, ...]:
        """Return the paths under which status lists are named and served."""
        return tuple(dict.fromkeys((STATUS_LISTS_PATH, self.path + STATUS_LISTS_PATH)))

    def jwks_paths(self) -> tuple[str, ...]:
        """Return the paths of the key set: that of ``jwks_uri``, and the plain one."""
        return tuple(dict.fromkeys((JWKS_PATH, self.path + JWKS_PATH)))
