from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING

import pytest

from agent_client.verification import InsufficientScope
from agent_client.verification.current import NoCurrentToken, ServedCall, current_token, requires

if TYPE_CHECKING:
    from support.guarded_api import Api


def test_outside_of_a_request_there_is_no_token() -> None:
    with pytest.raises(NoCurrentToken, match="no request"):
        current_token()
    assert issubclass(NoCurrentToken, LookupError)


def test_inside_of_a_call_its_token_is_the_current_one(ledger: Api) -> None:
    outer, inner = (ledger.verifier.verify(ledger.token(token_id=name)) for name in ("outer", "inner"))
    with ServedCall(outer):
        with ServedCall(inner):
            assert current_token() is inner
        assert current_token() is outer
    with pytest.raises(NoCurrentToken):
        current_token()


def test_a_context_that_outlives_the_call_has_no_token(ledger: Api) -> None:
    call = ServedCall(ledger.verifier.verify(ledger.token()))
    with call:
        kept = contextvars.copy_context()
    call.end()
    with pytest.raises(NoCurrentToken, match="has ended"):
        kept.run(current_token)


def test_requires_returns_the_token_or_says_what_is_missing(ledger: Api) -> None:
    token = ledger.verifier.verify(ledger.token("ledger.read"))
    with ServedCall(token):
        assert asyncio.run(_call(requires("ledger.read"))) is token
        with pytest.raises(InsufficientScope) as refused:
            asyncio.run(_call(requires("ledger.read", "ledger.write")))
    assert refused.value.required == ("ledger.read", "ledger.write")
    with pytest.raises(NoCurrentToken):
        asyncio.run(_call(requires("ledger.read")))


def test_requiring_nothing_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="name the scopes"):
        requires()


async def _call(dependency: object) -> object:
    assert callable(dependency)
    return await dependency()
