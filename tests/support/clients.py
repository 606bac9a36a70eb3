"""Both clients of the issuer behind one face, for tests of what they do alike."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from agent_client import IssuedToken, IssuerClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from issuer_testing.spire.embedded import EmbeddedWorkload
    from support.deployment import Deployment


class InItsLoop:
    """The asyncio client, each of its methods run to its end in a loop of its own."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = IssuerClient(*args, **options)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        return (lambda *args, **options: self._run(value, *args, **options)) if callable(value) else value

    def __enter__(self) -> Self:
        self._run(self._client.__aenter__)
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._client.__aexit__)
        self._runner.close()

    def _run(self, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        async def call() -> Any:
            return await method(*args, **options)

        return self._runner.run(call())


@dataclass(frozen=True)
class Clients:
    """Makes clients of one kind."""

    kind: type[Any]

    @contextlib.contextmanager
    def of(self, deployment: Deployment, workload: EmbeddedWorkload, **options: Any) -> Iterator[Any]:
        with self.kind(deployment.issuer.address, workload_api=workload.socket, **options) as client:
            yield client


def claims_of(issued: IssuedToken) -> dict[str, Any]:
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(issued.token.reveal().split(".")[1] + "=="))
    return claims
