"""What an adapter needs of where its tokens come from."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from agent_client.answers import IssuedToken


class SyncSource(Protocol):
    """Tokens for threads: what ``SyncIssuerClient.tokens_for`` returns."""

    def get(self) -> IssuedToken:
        """Return a token that is good now, from a cache wherever there is one. Raises what asking for one raises."""
        ...

    def invalidate(self, refused: IssuedToken) -> None:
        """Have the next ``get`` ask anew, unless there is another token than ``refused`` already."""
        ...


class AsyncSource(Protocol):
    """Tokens for one event loop: what ``IssuerClient.tokens_for`` returns."""

    async def get(self) -> IssuedToken:
        """Return a token, as :meth:`SyncSource.get` does."""
        ...

    def invalidate(self, refused: IssuedToken) -> None:
        """Have the next ``get`` ask anew, as :meth:`SyncSource.invalidate` does."""
        ...


Source = SyncSource | AsyncSource


def is_async(source: Source) -> TypeIs[AsyncSource]:
    """Return whether a source is one for an event loop."""
    return inspect.iscoroutinefunction(source.get)


def sync_source(source: Source, user: str) -> SyncSource:
    """Return ``source``, for ``user`` that runs in threads.

    Raises:
        TypeError: It is one for an event loop.
    """
    if is_async(source):
        raise TypeError(f"{user} needs a source of tokens for threads: make it with SyncIssuerClient.tokens_for")
    return source


def async_source(source: Source, user: str) -> AsyncSource:
    """Return ``source``, for ``user`` that runs in an event loop.

    Raises:
        TypeError: It is one for threads, which would block the loop.
    """
    if not is_async(source):
        raise TypeError(f"{user} needs a source of tokens for its event loop: make it with IssuerClient.tokens_for")
    return source
