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
Writer = Annotated[VerifiedToken, Depends(requires("ledger.write"))]


class Entry(BaseModel):
    """One line of the ledger."""

    amount: str
    by: str = ""


ledger = [Entry(amount="12.50"), Entry(amount="7.25")]


@app.get("/entries")
async def entries(_: Reader) -> list[Entry]:
    """Return every entry."""
    return ledger


@app.post("/entries", status_code=201)
async def add(entry: Entry, caller: Writer) -> Entry:
    """Add an entry, signed with who asked for the token: a proven SPIFFE ID, whatever the entry says."""
    ledger.append(Entry(amount=entry.amount, by=caller.subject))
    return ledger[-1]
