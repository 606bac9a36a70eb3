"""Which tokens are revoked, kept up to date by a task: for asyncio, what :mod:`.revocations` is for threads."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import aclosing
from typing import TYPE_CHECKING, Self

from agent_client.verification.revocations_keeping import DEFAULT_MAX_KEPT, DEFAULT_MAX_SILENCE, RevocationKeeper
from agent_client.verification.revocations_news import watch_revocations

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import timedelta

    from agent_client.aio import IssuerClient
    from agent_client.verification.verified_token import VerifiedToken


class AsyncRevocationStream:
    """Follows what the issuer revokes, and holds it against tokens. Runs in one event loop; tokens may come from any.

    Arguments and rules are those of :class:`~agent_client.verification.RevocationStream`, but that it begins with
    ``async with`` or :meth:`wait`, and not by itself. Until then nothing is known.

    Args:
        client: Asks the issuer. It stays the caller's to close, after this.
        max_silence: How long nothing may be heard of the issuer until tokens are refused: 5 seconds to an hour.
        unknown_allowed: Scopes for which that does not matter: a token that has no others is taken then.
        max_kept: How many revoked tokens are kept at most. With more, it is as if nothing were heard.

    Raises:
        ValueError: An argument is out of its bounds.
    """

    def __init__(
        self,
        client: IssuerClient,
        *,
        max_silence: timedelta = DEFAULT_MAX_SILENCE,
        unknown_allowed: Collection[str] = (),
        max_kept: int = DEFAULT_MAX_KEPT,
    ) -> None:
        self._client = client
        self._keeper = RevocationKeeper(max_silence, unknown_allowed, max_kept)
        self._news = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def is_current(self) -> bool:
        """Whether all that is revoked is known now: what a readiness check can tell."""
        return self._keeper.is_current

    @property
    def kept(self) -> int:
        """How many revoked tokens, and kinds of token, are kept."""
        return self._keeper.kept

    def refuse_revoked(self, token: VerifiedToken, key_id: str) -> None:
        """Return if a token may be taken; what :class:`~agent_client.verification.TokenVerifier` asks. Thread-safe.

        Raises:
            TokenRejected: REVOKED.
            RevocationsUnavailable: It is not known, and has to be.
        """
        self._keeper.refuse_revoked(token, key_id)

    async def wait(self, timeout: float) -> bool:  # noqa: ASYNC109 - it is told apart from a failure
        """Begin to follow, and wait until all that is revoked is known: before a server is ready.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            Whether it is known.
        """
        self._start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout), self._news:
                await self._news.wait_for(lambda: self.is_current or self._closed)
        return self.is_current

    async def close(self) -> None:
        """Follow no more. What is known gets old, and tokens are refused then. Closing twice does nothing."""
        self._closed = True
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        async with self._news:
            self._news.notify_all()

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _start(self) -> None:
        if self._task is None and not self._closed:
            self._task = asyncio.get_running_loop().create_task(self._follow(), name="issuer-revocations")

    async def _follow(self) -> None:
        while True:
            error = await self._follow_one()
            self._keeper.look()
            await asyncio.sleep(self._keeper.pause_after(error))

    async def _follow_one(self) -> Exception | None:
        """Follow one stream to its end; return what ended it."""
        wanted = watch_revocations(self._keeper.position)
        try:
            async with aclosing(self._client.follow(wanted, quiet=self._keeper.quiet)) as all_:
                async for news in all_:
                    self._keeper.take(news)
                    async with self._news:
                        self._news.notify_all()
        except Exception as error:  # noqa: BLE001 - the last resort: a stream that ended here for good would look alive
            return error.with_traceback(None)
        return None
