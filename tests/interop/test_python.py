"""Our tokens through two Python libraries, each from the issuer's URL alone."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import pytest
from joserfc import jwt as joserfc_jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from support.minting import AUDIENCE
from support.published import Published

Claims = dict[str, Any]
Verifier = Callable[[str, str, str], Claims]


def openid_metadata(issuer: str) -> str:
    """Return where OpenID Connect Discovery section 4 puts it: behind the path."""
    return f"{issuer}/.well-known/openid-configuration"


def oauth_metadata(issuer: str) -> str:
    """Return where RFC 8414 section 3.1 puts it: between host and path."""
    url = httpx.URL(issuer)
    return str(url.copy_with(path="/.well-known/oauth-authorization-server" + url.path.rstrip("/")))


def metadata(issuer: str, url: str) -> dict[str, Any]:
    document: dict[str, Any] = httpx.get(url).raise_for_status().json()
    assert document["issuer"] == issuer
    return document


def with_pyjwt(issuer: str, audience: str, token: str) -> Claims:
    known = metadata(issuer, oauth_metadata(issuer))
    key = jwt.PyJWKClient(known["jwks_uri"]).get_signing_key_from_jwt(token)
    decoded = jwt.decode_complete(
        token,
        key,
        algorithms=known["id_token_signing_alg_values_supported"],
        issuer=issuer,
        audience=audience,
        options={"require": ["iss", "sub", "aud", "exp", "iat", "nbf", "jti"]},
    )
    assert decoded["header"]["typ"] == "at+jwt"
    claims: Claims = decoded["payload"]
    return claims


def with_joserfc(issuer: str, audience: str, token: str) -> Claims:
    known = metadata(issuer, openid_metadata(issuer))
    keys = KeySet.import_key_set(httpx.get(known["jwks_uri"]).json())
    decoded = joserfc_jwt.decode(token, keys, algorithms=known["id_token_signing_alg_values_supported"])
    assert decoded.header["typ"] == "at+jwt"
    rules = joserfc_jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": issuer},
        aud={"essential": True, "value": audience},
        exp={"essential": True},
        nbf={"essential": True},
    )
    rules.validate(decoded.claims)
    return decoded.claims


both = pytest.mark.parametrize("verify", [with_pyjwt, with_joserfc], ids=["pyjwt", "joserfc"])


@both
def test_accepts_our_token_and_reads_what_we_wrote(published: Published, verify: Verifier) -> None:
    decision = published.decision()
    claims = verify(published.issuer, AUDIENCE, published.token(decision))
    assert claims == json.loads(decision.payload())


@both
def test_refuses_it_at_another_api(published: Published, verify: Verifier) -> None:
    with pytest.raises((jwt.InvalidAudienceError, JoseError)):
        verify(published.issuer, "https://payroll.prod.example", published.token())


@both
def test_refuses_a_bad_token(published: Published, verify: Verifier, bad_token: str) -> None:
    with pytest.raises((jwt.PyJWTError, JoseError, ValueError)):
        verify(published.issuer, AUDIENCE, bad_token)
