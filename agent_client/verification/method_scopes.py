"""Which scopes a gRPC method needs. A method that nobody spoke of is not served. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agent_client.verification.request_errors import MethodNotListed

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_NAME = re.compile(r"/[A-Za-z0-9_.]+/(?:[A-Za-z0-9_]+|\*)")


class MethodScopes:
    """The scopes of every method, and the methods that need no token.

    Names are ``/package.Service/Method``, or ``/package.Service/*`` for those of a service that are not named; the more
    exact one counts alone.

    Args:
        scopes: For each name, all of the scopes that are needed.
        default_scopes: Those of methods without a name; ``None`` does not serve them.
        public: Methods that are served to everybody, as ``/grpc.health.v1.Health/*``.

    Raises:
        TypeError: One string is given for several scopes or names.
        ValueError: A name is malformed or in both, or there are no scopes for it: empty never means all.
    """

    def __init__(
        self,
        scopes: Mapping[str, Collection[str]],
        *,
        default_scopes: Collection[str] | None = None,
        public: Collection[str] = (),
    ) -> None:
        if isinstance(public, str):
            raise TypeError(f"public is a list: write [{public!r}]")
        self._public = frozenset(public)
        self._scopes = {name: _some(needed, name) for name, needed in scopes.items()}
        self._default = None if default_scopes is None else _some(default_scopes, "default_scopes")
        for name in (*self._public, *self._scopes):
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no method: write /package.Service/Method or /package.Service/*")
        if both := self._public & self._scopes.keys():
            raise ValueError(f"{min(both)} is public and has scopes")

    def is_public(self, method: str) -> bool:
        """Return whether a method needs no token."""
        named = method in self._public or method in self._scopes
        return method in self._public if named else _all_of_service(method) in self._public

    def needed(self, method: str) -> tuple[str, ...]:
        """Return the scopes that a method needs, at least one.

        Raises:
            MethodNotListed: Nobody said.
        """
        scopes = self._scopes.get(method) or self._scopes.get(_all_of_service(method)) or self._default
        if scopes is None:
            raise MethodNotListed
        return scopes


def _all_of_service(method: str) -> str:
    return f"{method.rpartition('/')[0]}/*"


def _some(scopes: Collection[str], name: str) -> tuple[str, ...]:
    if isinstance(scopes, str):
        raise TypeError(f"the scopes of {name} are a list: write [{scopes!r}]")
    if not scopes or not all(scopes):
        raise ValueError(f"{name} has no scopes: name those that are needed, or list the method as public")
    return tuple(scopes)
