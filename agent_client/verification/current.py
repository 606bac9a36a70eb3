"""Whose request is being served: the verified token of the call that the running code belongs to.

::

    @app.get("/ledger")
    async def read(token: Annotated[VerifiedToken, Depends(requires("ledger.read"))]) -> ...:

Anywhere below, :func:`current_token` returns the same token without being handed it. It is a context variable, so
concurrent calls each see their own; frameworks pass it on to the threads that serve synchronous endpoints.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent_client.verification.verified_token import VerifiedToken


class NoCurrentToken(LookupError):
    """There is no token: the code runs for no request, for one that has ended, or on a path that is public."""


class ServedCall:
    """One call, from its verification to its end. Inside of ``with`` it is the current one.

    A task that outlives its call keeps the context it was started with. It does not keep the token: :meth:`end` takes
    it away wherever the context went.

    Args:
        token: The token that the call was admitted by.
    """

    __slots__ = ("_before", "_token")

    def __init__(self, token: VerifiedToken) -> None:
        self._token: VerifiedToken | None = token
        self._before: Token[ServedCall | None] | None = None

    def __enter__(self) -> Self:
        self._before = _SERVED.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            _SERVED.reset(self._before)

    @property
    def token(self) -> VerifiedToken:
        """The token.

        Raises:
            NoCurrentToken: The call has ended.
        """
        if self._token is None:
            raise NoCurrentToken(
                "the request that this code was started for has ended: keep what you need of its token"
            )
        return self._token

    def end(self) -> None:
        """Let nobody have the token any more."""
        self._token = None


_SERVED: ContextVar[ServedCall | None] = ContextVar("agent_client.verification.served", default=None)


def current_token() -> VerifiedToken:
    """Return the verified token of the call that is being served.

    It was good when the call began; that it still is, is not checked.

    Raises:
        NoCurrentToken: There is no such call, or it has no token.
    """
    served = _SERVED.get()
    if served is None:
        raise NoCurrentToken("no request with a verified token is being served here")
    return served.token


def requires(*scopes: str) -> Callable[[], Awaitable[VerifiedToken]]:
    """Return a dependency, for FastAPI's ``Depends``, that returns the current token if it has all of these scopes.

    The dependency takes no arguments. It is asynchronous so that FastAPI calls it where it is, and in no thread;
    the endpoint may be of either kind.

    Raises:
        ValueError: There are no scopes: nothing would be required.
    """
    if not scopes:
        raise ValueError("name the scopes that are required; current_token() is for any token")

    async def token_with_scopes() -> VerifiedToken:
        token = current_token()
        token.require(*scopes)
        return token

    return token_with_scopes
