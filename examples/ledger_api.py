"""A resource server, as a user would write it: an HTTP API that accepts only tokens that were issued for it.

It knows two things, its own name and the issuer's, and learns the rest from the issuer's metadata::

    ISSUER=https://issuer.prod.example AUDIENCE=https://ledger.prod.example uvicorn ledger_api:app
"""

import os

import httpx
import jwt
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

ISSUER = os.environ["ISSUER"]
AUDIENCE = os.environ["AUDIENCE"]

metadata = httpx.get(f"{ISSUER}/.well-known/oauth-authorization-server").raise_for_status().json()
keys = jwt.PyJWKClient(metadata["jwks_uri"])


def verified_claims(token: str) -> dict:
    """Return the claims of a token for this API, or raise jwt.InvalidTokenError (RFC 9068 section 4)."""
    if jwt.get_unverified_header(token).get("typ", "").lower() not in ("at+jwt", "application/at+jwt"):
        raise jwt.InvalidTokenError("not an access token")
    key = keys.get_signing_key_from_jwt(token)
    return jwt.decode(token, key, algorithms=["ES256"], audience=AUDIENCE, issuer=ISSUER, leeway=5)


async def entries(request: Request) -> JSONResponse:
    """GET /entries, for callers with the scope ledger.read."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return JSONResponse({"error": "no token"}, 401, {"WWW-Authenticate": "Bearer"})
    try:
        claims = verified_claims(token)
    except jwt.InvalidTokenError as error:
        challenge = f'Bearer error="invalid_token", error_description="{error}"'
        return JSONResponse({"error": str(error)}, 401, {"WWW-Authenticate": challenge})
    if "ledger.read" not in claims["scope"].split():
        challenge = 'Bearer error="insufficient_scope", scope="ledger.read"'
        return JSONResponse({"error": "insufficient scope"}, 403, {"WWW-Authenticate": challenge})
    return JSONResponse({"caller": claims["sub"], "entries": [{"id": 1, "amount": "12.50"}]})


app = Starlette(routes=[Route("/entries", entries)])
