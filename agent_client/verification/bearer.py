"""The one bearer token of a request (RFC 6750 section 2.1). Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agent_client.token_checks import MAX_TOKEN_BYTES
from agent_client.verification.request_errors import AuthorizationMalformed, TokenMissing

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_SPACES = 8
"""``1*SP`` (RFC 9110 section 11.4) sets no bound; people write one space."""
_MAX_VALUE = len("Bearer") + _MAX_SPACES + MAX_TOKEN_BYTES

_SCHEME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]*+")  # a token of RFC 9110 section 5.6.2
# RFC 6750 section 2.1: "Bearer" 1*SP b64token. The quantifiers are possessive: nothing is looked at twice.
_B64TOKEN = re.compile(rf" {{1,{_MAX_SPACES}}}+([A-Za-z0-9\-._~+/]++=*+)")


def bearer_token(values: Sequence[str]) -> str:
    """Return the token of a request.

    Args:
        values: Of every ``Authorization`` of the request, in whatever order.

    Raises:
        TokenMissing: There is none, or it is of another scheme.
        AuthorizationMalformed: There are several, even if only one is a bearer token: which one counts, the next
            program might see otherwise. Or it is no bearer token by its syntax; a list of credentials is none.
    """
    if not values:
        raise TokenMissing
    if len(values) > 1:
        raise AuthorizationMalformed("the request has more than one Authorization header")
    value = values[0]
    scheme = _SCHEME.match(value)
    if scheme is None or scheme[0].lower() != "bearer":  # RFC 9110 section 11.1: without regard to case
        raise TokenMissing
    if len(value) > _MAX_VALUE:
        raise AuthorizationMalformed("the access token is larger than 16 KiB")
    token = _B64TOKEN.fullmatch(value, scheme.end())
    if token is None:
        raise AuthorizationMalformed("the Authorization header is not the word Bearer and one token")
    return token[1]
