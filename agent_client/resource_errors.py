"""What a resource server, asked with a token, may refuse. Raised by :mod:`agent_client.adapters`.

::

    ResourceRefused
    ├── TokenRefused         invalid_token (RFC 6750 section 3.1), and a fresh token did not help or could not be tried
    ├── ScopeInsufficient    insufficient_scope (RFC 6750 section 3.1): `scopes` are those that are needed
    └── StepUpRequired       insufficient_user_authentication (RFC 9470 section 3)

    InsecureTransport        nothing was sent: the token would have gone over the network in the clear

None of them holds the token, or an object of an HTTP library, which would hold the request and with it the token. What
they tell of the answer is the server's word: ``description``, ``scopes`` and ``resource_metadata`` are not verified.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta

MAX_SHOWN_CHARACTERS = 300
"""How much of a server's own text an error prints: a few lines. ``description`` has it whole."""


@dataclass(frozen=True, slots=True)
class ServerAnswer:
    """What a server said when it refused.

    Attributes:
        status: The HTTP status; of a gRPC call, the number of its status code.
        headers: The answer's headers; of a gRPC call, its trailing metadata that is text.
        description: The server's ``error_description``, or a gRPC call's status text; ``None`` where it gave none.
        resource_metadata: Where the server says that its metadata is (RFC 9728 section 5.1); ``None`` where it does
            not. Before it is fetched, compare its origin with that of the request.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    description: str | None = None
    resource_metadata: str | None = None


class ResourceRefused(Exception):
    """A resource server did not let the token do what was asked.

    Attributes:
        message: What happened, in one sentence.
        answer: What the server said.
        status: That of the answer, as are ``headers``, ``description`` and ``resource_metadata``.
    """

    def __init__(self, message: str, answer: ServerAnswer) -> None:
        super().__init__(message)
        self.message = message
        self.answer = answer
        self.status = answer.status
        self.headers = answer.headers
        self.description = answer.description
        self.resource_metadata = answer.resource_metadata

    def __str__(self) -> str:
        said = f": {self.description[:MAX_SHOWN_CHARACTERS]!r}" if self.description else ""
        return f"{self.message} (status {self.status}{said})"


class TokenRefused(ResourceRefused):
    """The server calls the token invalid. Compare its audience, its clock, its issuer, and the keys that it has.

    Attributes:
        retried: Whether a fresh token was refused as well, now or seconds ago. ``False``: the request could not be sent
            again, since its body can be read only once; the next request has a fresh token.
    """

    def __init__(self, message: str, answer: ServerAnswer, *, retried: bool) -> None:
        super().__init__(message, answer)
        self.retried = retried


class ScopeInsufficient(ResourceRefused):
    """The token is good, and does not allow this. A token has the scopes of its source: no adapter widens them.

    Attributes:
        scopes: What the server says is needed; empty where it does not say.
    """

    def __init__(self, message: str, answer: ServerAnswer, *, scopes: tuple[str, ...]) -> None:
        super().__init__(message, answer)
        self.scopes = scopes


class StepUpRequired(ResourceRefused):
    """The token is good, and the server wants its user to have authenticated otherwise, or more recently.

    Attributes:
        acr_values: Acceptable authentication context classes, the preferred first; empty where any would do.
        max_age: How long ago the user may have authenticated at most; ``None`` where that does not matter.
        scopes: What else is needed; empty where the server does not say.
    """

    def __init__(
        self,
        message: str,
        answer: ServerAnswer,
        *,
        acr_values: tuple[str, ...],
        max_age: timedelta | None,
        scopes: tuple[str, ...],
    ) -> None:
        super().__init__(message, answer)
        self.acr_values = acr_values
        self.max_age = max_age
        self.scopes = scopes


class InsecureTransport(ValueError):
    """The request would carry its token in the clear (RFC 6750 section 5.3). Nothing was sent."""
