"""An OIDC issuer on this machine, and the ID tokens that it or anybody else could make."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from issuer.oidc.settings import OidcIssuerSettings
from support.forging import OMIT, Forge, without_omitted
from support.key_server import JWKS_PATH, OPENID_PATH, KeyServer, answer_json

if TYPE_CHECKING:
    from collections.abc import Iterable

AUDIENCE = "spiffe-issuer"


def serve_oidc(server: KeyServer, keys: Iterable[dict[str, Any]], **metadata: object) -> None:
    """Have a server be an OIDC issuer with these keys."""
    said = {"issuer": server.issuer, "jwks_uri": server.issuer + JWKS_PATH, **metadata}
    server.answers[OPENID_PATH] = answer_json(without_omitted(said))
    server.answers[JWKS_PATH] = answer_json({"keys": list(keys)}, cache_control="max-age=300")


def settings_of(url: str, **changes: Any) -> OidcIssuerSettings:
    """Return the settings for the issuer at ``url``, changed."""
    usual: dict[str, Any] = {
        "name": "people",
        "url": url,
        "audience": AUDIENCE,
        "algorithms": frozenset({"ES256", "RS256"}),
        "jwks_uri": None,
        "ca_file": None,
        "timeout": timedelta(seconds=3),
        "max_key_age": timedelta(hours=24),
    }
    return OidcIssuerSettings(**{**usual, **changes})


def id_claims(issuer: str, **changes: object) -> dict[str, Any]:
    """Return the claims of an ID token of this moment, changed."""
    now = int(datetime.now(UTC).timestamp())
    usual = {
        "iss": issuer,
        "aud": AUDIENCE,
        "sub": "00u1",
        "iat": now,
        "exp": now + 300,
        "auth_time": now,
    }
    return without_omitted({**usual, **changes})


def id_token(forge: Forge, issuer: str, *, header: dict[str, Any] | None = None, **claims: object) -> str:
    """Return an ID token, with these claims changed and, if given, these members of its header."""
    return forge.sign(forge.header(**{"typ": "JWT", **(header or {})}), id_claims(issuer, **claims))


__all__ = ["AUDIENCE", "OMIT", "id_claims", "id_token", "serve_oidc", "settings_of"]
