"""A service that calls a service: its calls to the ledger carry a token that is always fresh.

Who it is comes from SPIFFE_ENDPOINT_SOCKET, where the issuer is from SPIFFE_ISSUER_ADDRESS.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from agent_client import IssuerClient, IssuerRequestError
from agent_client.adapters.httpx import TokenAuth

LEDGER_URL = os.environ.get("LEDGER_URL", "http://127.0.0.1:8000")


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, httpx.AsyncClient]]:
    """Keep one client for all calls."""
    async with IssuerClient() as issuer:
        tokens = issuer.tokens_for("https://ledger.prod.example", ["ledger.read"])
        async with httpx.AsyncClient(base_url=LEDGER_URL, auth=TokenAuth(tokens)) as ledger:
            yield {"ledger": ledger}


app = FastAPI(title="settlement", lifespan=lifespan)


@app.get("/balance")
async def balance(request: Request) -> dict[str, Decimal]:
    """Return the sum of the ledger's entries."""
    entries = await request.state.ledger.get("/entries")
    return {"balance": sum((Decimal(entry["amount"]) for entry in entries.raise_for_status().json()), Decimal(0))}


@app.exception_handler(IssuerRequestError)
async def no_token(_: Request, error: IssuerRequestError) -> JSONResponse:
    """Tell our own operator why we may not, and our caller no more than that we could not."""
    print(f"no token for the ledger: {error}", flush=True)
    return JSONResponse({"error": "the ledger cannot be asked now"}, 503)
