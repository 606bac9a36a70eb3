from __future__ import annotations

import pytest
from support.numbered_tokens import SECRET, NumberedTokens, SyncNumberedTokens, token_text

from agent_client.adapters.provider import async_token_provider, token_provider
from agent_client.errors import PolicyDenied


def test_a_provider_gives_the_text_of_the_token_of_now() -> None:
    source = SyncNumberedTokens()
    provide = token_provider(source)
    assert provide() == token_text(1)
    source.invalidate(source.get())
    assert provide() == token_text(2)
    assert SECRET not in repr(provide)


async def test_the_same_for_an_event_loop() -> None:
    source = NumberedTokens()
    provide = async_token_provider(source)
    assert await provide() == token_text(1)
    source.invalidate(await source.get())
    assert await provide() == token_text(2)
    assert SECRET not in repr(provide)


async def test_a_provider_raises_what_its_source_raises() -> None:
    sync, aio = SyncNumberedTokens(), NumberedTokens()
    sync.failure = aio.failure = PolicyDenied("no")
    with pytest.raises(PolicyDenied):
        token_provider(sync)()
    with pytest.raises(PolicyDenied):
        await async_token_provider(aio)()


async def test_a_source_of_the_other_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="SyncIssuerClient"):
        token_provider(NumberedTokens())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r" IssuerClient\.tokens_for"):
        async_token_provider(SyncNumberedTokens())  # type: ignore[arg-type]
