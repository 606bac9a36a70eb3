"""A resource server with FastAPI: it takes only tokens that were issued for it, and of those what each route needs.

It knows its own name and the issuer's, and learns the rest from the issuer's metadata.
"""

import os
from typing import Annotated

from fastapi import Depends, FastAPI
from pydantic import BaseModel

from agent_client.verification import TokenVerifier, VerifiedToken
from agent_client.verification.asgi import TokenMiddleware
from agent_client.verification.current import requires

verifier = TokenVerifier(
    os.environ["ISSUER"],
    "https://ledger.prod.example",
    insecure_dev="INSECURE_DEV" in os.environ,  # for `issuer dev up`; never where anything is at stake
)
app = FastAPI(title="ledger")
app.add_middleware(TokenMiddleware, verifier=verifier)

Reader = Annotated[VerifiedToken, Depends(requires("ledger.read"))]


class Entry(BaseModel):
    """One line of the ledger."""

    amount: str


@app.get("/entries")
async def entries(_: Reader) -> list[Entry]:
    """Return every entry, to callers with the scope ledger.read."""
    return [Entry(amount="12.50"), Entry(amount="7.25")]


@app.get("/caller")
async def caller(token: Reader) -> str:
    """Return who is calling: a SPIFFE ID that was proven to the issuer, not a name that the caller chose."""
    return token.subject
