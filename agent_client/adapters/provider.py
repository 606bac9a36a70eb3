"""Tokens for libraries that ask a callable for the text of one before each request.

::

    from agent_client.adapters.provider import token_provider

    client = openai.OpenAI(base_url="https://models.prod.example/v1", api_key=token_provider(source))

``openai.AsyncOpenAI`` takes an :func:`async_token_provider`, and ``AzureOpenAI(azure_ad_token_provider=...)`` takes
:func:`token_provider`. What such a library is told about a refused token stays there: nobody asks for a fresh one.
Where the library lets its HTTP client be chosen, prefer :mod:`agent_client.adapters.httpx`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_client.adapters.sources import async_source, sync_source

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent_client.adapters.sources import AsyncSource, SyncSource


def token_provider(source: SyncSource) -> Callable[[], str]:
    """Return a callable that returns a token's text, good now. It raises what the source raises.

    The text is in the hands of whoever calls it: it prints, and gets into logs, as any text does.

    Raises:
        TypeError: The source is one for an event loop.
    """
    source = sync_source(source, "token_provider")

    def token() -> str:
        return source.get().token.reveal()

    return token


def async_token_provider(source: AsyncSource) -> Callable[[], Awaitable[str]]:
    """Return what :func:`token_provider` returns, for the event loop of ``source``.

    Raises:
        TypeError: The source is one for threads.
    """
    source = async_source(source, "async_token_provider")

    async def token() -> str:
        return (await source.get()).token.reveal()

    return token
