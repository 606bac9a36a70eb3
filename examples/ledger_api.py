"""A resource server with Starlette, or any other ASGI framework: it takes only tokens that were issued for it.

It knows two things, its own name and the issuer's, and learns the rest from the issuer's metadata::

    ISSUER=https://issuer.prod.example AUDIENCE=https://ledger.prod.example uvicorn ledger_api:app

With ``FOLLOW_REVOCATIONS=1`` it also refuses revoked tokens, within a second. For that it needs an SVID of its own, and
policy has to name it in ``servers``.
"""

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from agent_client import SyncIssuerClient
from agent_client.verification import RevocationStream, TokenVerifier
from agent_client.verification.asgi import TokenMiddleware
from agent_client.verification.current import current_token

revocations = None
if "FOLLOW_REVOCATIONS" in os.environ:
    revocations = RevocationStream(SyncIssuerClient(spiffe_id=os.environ.get("SPIFFE_ID")))
    revocations.wait(30)  # until it is known what was revoked, no token is taken

verifier = TokenVerifier(
    os.environ["ISSUER"],
    os.environ["AUDIENCE"],
    revocations=revocations,
    insecure_dev="INSECURE_DEV" in os.environ,  # for `issuer dev up`; never where anything is at stake
)


async def entries(_: Request) -> JSONResponse:
    """GET /entries, for callers with the scope ledger.read."""
    token = current_token()
    token.require("ledger.read")
    return JSONResponse({"caller": token.subject, "entries": [{"id": 1, "amount": "12.50"}]})


app = TokenMiddleware(Starlette(routes=[Route("/entries", entries)]), verifier)
