"""Where the issuer's keys come from. A source only fetches; what is kept, and for how long, is the key cache's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from agent_client.sync import SyncIssuerClient

FETCH_SECONDS = 5.0
"""How long one fetch may take in all, discovery included. Callers without keys wait for it."""


@dataclass(frozen=True, slots=True)
class FetchedKeys:
    """What a source brought.

    Attributes:
        jwks: A JWK Set (RFC 7517 section 5), as JSON values; its content is not checked yet.
        max_age: How long the issuer lets it be kept; ``None`` when it did not say.
    """

    jwks: Mapping[str, Any]
    max_age: timedelta | None


class KeySource(Protocol):
    """Brings the issuer's keys, and vouches that they are the issuer's."""

    def fetch(self) -> FetchedKeys:
        """Fetch the key set anew, and be done within :data:`FETCH_SECONDS`.

        It is called in a thread of its own, never twice at once. Whatever it raises counts as "not now"; the text of
        the error is logged.
        """


class IssuerKeys:
    """The keys from the issuer's own RPC, over mutual TLS: for resource servers that have an SVID themselves.

    Args:
        client: Asks the issuer. It stays the caller's to close.
    """

    def __init__(self, client: SyncIssuerClient) -> None:
        self._client = client

    def fetch(self) -> FetchedKeys:
        """Ask the issuer.

        Raises:
            IssuerRequestError: There is no answer.
            WorkloadApiError: There is no identity to ask with.
            ClientClosed: The client was closed.
        """
        answer = self._client.get_key_set(timeout=FETCH_SECONDS)
        return FetchedKeys(answer.jwks, answer.max_age)
