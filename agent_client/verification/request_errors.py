"""Why a request is not served, where that is no fault of its token.

::

    VerificationError
    ├── TokenMissing              401, without an error code
    ├── AuthorizationMalformed    400 invalid_request
    ├── StepUpNeeded              401 insufficient_user_authentication; endpoints raise it
    └── MethodNotListed           gRPC alone: nobody said which scopes the method needs

The others are in :mod:`agent_client.verification.errors`.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

from agent_client.verification.errors import InsufficientScope, VerificationError

if TYPE_CHECKING:
    from collections.abc import Sequence

# OpenID Connect Core section 3.1.2.1: values separated by spaces; RFC 6750's characters of a parameter.
_ACR_VALUE = re.compile(r"[!#-\[\]-~]+")


class TokenMissing(VerificationError):
    """The request brings no bearer token."""

    http_status = 401

    def __init__(self) -> None:
        super().__init__("the request has no access token", "Send one: Authorization: Bearer TOKEN.")

    def __reduce__(self) -> tuple[type[TokenMissing], tuple[()]]:
        """Be made anew, by pickle and copy alike."""
        return type(self), ()


class AuthorizationMalformed(VerificationError):
    """The request's ``Authorization`` cannot be read as one bearer token."""

    http_status = 400
    oauth_error = "invalid_request"

    def __init__(self, message: str) -> None:
        super().__init__(message, "Send one header: Authorization: Bearer TOKEN (RFC 6750 section 2.1).")

    def __reduce__(self) -> tuple[type[AuthorizationMalformed], tuple[str]]:
        """Be made anew from the message."""
        return type(self), (self.message,)


class StepUpNeeded(VerificationError):
    """The token is good, and this operation needs a stronger or more recent authentication behind it (RFC 9470).

    Attributes:
        acr_values: The authentication contexts of which one is needed, the preferred one first.
        max_age: How long ago the authentication may have been; ``None`` for any time.

    Raises:
        TypeError: ``acr_values`` is one string, whose letters would be taken for values, or ``max_age`` is a number.
        ValueError: Neither is given, a value has a space or is no printable ASCII, or ``max_age`` is negative.
    """

    http_status = 401
    oauth_error = "insufficient_user_authentication"

    def __init__(self, acr_values: Sequence[str] = (), max_age: timedelta | None = None) -> None:
        super().__init__("a stronger or more recent authentication is needed", "Authenticate anew, as is asked for.")
        given: object = max_age
        if isinstance(acr_values, str) or not isinstance(given, timedelta | None):
            raise TypeError("acr_values is a list of strings and max_age a timedelta")
        if not acr_values and max_age is None:
            raise ValueError("say what is needed: acr_values, max_age or both")
        if not all(_ACR_VALUE.fullmatch(value) for value in acr_values):
            raise ValueError("an acr value is printable ASCII without spaces and quotes")
        if max_age is not None and max_age < timedelta(0):
            raise ValueError("max_age is not negative")
        self.acr_values = tuple(acr_values)
        self.max_age = max_age

    def __reduce__(self) -> tuple[type[StepUpNeeded], tuple[tuple[str, ...], timedelta | None]]:
        """Be made anew from what is needed."""
        return type(self), (self.acr_values, self.max_age)


class MethodNotListed(VerificationError):
    """Nobody said which scopes this gRPC method needs, and none are for methods without a word."""

    http_status = 403

    def __init__(self) -> None:
        super().__init__("this method is not served to callers", "Tell the server's operator.")

    def __reduce__(self) -> tuple[type[MethodNotListed], tuple[()]]:
        """Be made anew."""
        return type(self), ()


RAISED_BY_HANDLERS = (InsufficientScope, StepUpNeeded)
"""What endpoints and RPC handlers raise to have it answered. What else they raise is theirs: a TokenRejected, say, of
some other token that they verify is no word on this request."""
