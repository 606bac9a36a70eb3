"""What an HTTP answer to a request with a token means. Pure, and the same for every library.

==========================================  =======================================================================
401 ``invalid_token``                       :class:`Retry` with a fresh token, once; then ``TokenRefused``
401, 403 ``insufficient_scope``             ``ScopeInsufficient``
401 ``insufficient_user_authentication``    ``StepUpRequired`` (RFC 9470)
everything else                             :class:`Pass`: the caller gets the answer as it is
==========================================  =======================================================================

Only ``Bearer`` challenges count. A 401 without an error code passes: RFC 6750 section 3.1 has it for a request without
a token, and what else it may mean is not known. The caller of this module sees to it that the answer is one to a
request that *carried* the token: after a redirect to another origin it is not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from agent_client.challenges import parse_challenges
from agent_client.resource_errors import (
    ResourceRefused,
    ScopeInsufficient,
    ServerAnswer,
    StepUpRequired,
    TokenRefused,
)

if TYPE_CHECKING:
    from agent_client.access_token import AccessToken
    from agent_client.answers import IssuedToken
    from agent_client.challenges import Challenge

UNAUTHORIZED, FORBIDDEN = 401, 403
INVALID_TOKEN = "invalid_token"  # noqa: S105 - an error code
INSUFFICIENT_SCOPE = "insufficient_scope"
INSUFFICIENT_USER_AUTHENTICATION = "insufficient_user_authentication"
_MEANT = {
    (UNAUTHORIZED, INVALID_TOKEN),
    (UNAUTHORIZED, INSUFFICIENT_SCOPE),
    (FORBIDDEN, INSUFFICIENT_SCOPE),
    (UNAUTHORIZED, INSUFFICIENT_USER_AUTHENTICATION),
}
MAX_SCOPES = 32  # those of one request to the issuer
_SCOPE = re.compile(r"[!#-\[\]-~]{1,128}")
_SECONDS = re.compile(r"[0-9]{1,9}")  # 31 years; more digits are no age


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, without its body: the status, and the header lines in their order."""

    status: int
    headers: tuple[tuple[str, str], ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Pass:
    """The answer is the caller's."""


@dataclass(frozen=True, slots=True)
class Retry:
    """The token is to be replaced, and the request sent once more."""


@dataclass(frozen=True, slots=True)
class Raise:
    """The answer is an error."""

    error: ResourceRefused


Verdict = Pass | Retry | Raise


class Invalidating(Protocol):
    """The part of a source that is the same in threads and in an event loop."""

    def invalidate(self, refused: IssuedToken) -> None:
        """Have the next ``get`` ask anew, unless there is another token than ``refused`` already."""
        ...


def obey(verdict: Verdict, source: Invalidating, sent: IssuedToken) -> bool:
    """Return whether the request is to be sent once more, with the token that ``source`` then gives.

    That may be ``sent`` again, where the source asked for a fresh one only seconds ago. It is not sent twice then: the
    same answer is judged as that to the second try.

    The source learns that ``sent`` was refused, unless it was the second token: a server that takes none must not have
    each request ask the issuer twice.

    Raises:
        ResourceRefused: What no fresh token can mend, or could.
    """
    if isinstance(verdict, Raise):
        if isinstance(verdict.error, TokenRefused) and not verdict.error.retried:
            source.invalidate(sent)
        raise verdict.error
    if isinstance(verdict, Retry):
        source.invalidate(sent)
    return isinstance(verdict, Retry)


def verdict_of(answer: Answer, sent: AccessToken, *, retried: bool, replayable: bool = True) -> Verdict:
    """Return what to do about an answer.

    Args:
        answer: What came back to a request that carried a token.
        sent: That token. A server may tell its caller what it was sent: in an error it stands as ``[token]``.
        retried: Whether this is the second answer, or there will be none.
        replayable: Whether its body can be sent again.
    """
    if answer.status not in (UNAUTHORIZED, FORBIDDEN):
        return Pass()
    answer = Answer(answer.status, tuple((name, without_token(value, sent)) for name, value in answer.headers))
    challenge = _challenge(answer)
    if challenge is None:
        return Pass()
    error, said = challenge.parameters["error"], challenge.parameters.get
    if error == INSUFFICIENT_SCOPE:
        return Raise(scope_insufficient(_told(answer, challenge), said("scope", "")))
    if error == INSUFFICIENT_USER_AUTHENTICATION:
        wanted = {"acr_values": said("acr_values", ""), "max_age": said("max_age", ""), "scopes": said("scope", "")}
        return Raise(step_up_required(_told(answer, challenge), **wanted))
    if replayable and not retried:
        return Retry()
    return Raise(token_refused(_told(answer, challenge), retried=retried))


def without_token(text: str, sent: AccessToken) -> str:
    """Return ``text`` without the token: a server may tell its caller what it was sent."""
    return text.replace(sent.reveal(), "[token]")


def _challenge(answer: Answer) -> Challenge | None:
    """Return the first challenge that says something about the token which this table knows."""
    lines = (value for name, value in answer.headers if name.lower() == "www-authenticate")
    for challenge in parse_challenges(lines):
        if challenge.is_scheme("Bearer") and (answer.status, challenge.parameters.get("error")) in _MEANT:
            return challenge
    return None


def _told(answer: Answer, challenge: Challenge) -> ServerAnswer:
    return ServerAnswer(
        status=answer.status,
        headers=answer.headers,
        description=challenge.parameters.get("error_description"),
        resource_metadata=challenge.parameters.get("resource_metadata"),
    )


def token_refused(told: ServerAnswer, *, retried: bool) -> TokenRefused:
    """Return the error for a token that is called invalid, be it the second or one that cannot be replaced."""
    how = "and no fresh one helped" if retried else "and the request's body cannot be sent again with a fresh one"
    return TokenRefused(f"the resource server refused the token, {how}", told, retried=retried)


def scope_insufficient(told: ServerAnswer, scopes: str) -> ScopeInsufficient:
    """Return the error for a token that allows too little; ``scopes`` are the server's, between spaces."""
    needed = scope_names(scopes)
    what = f"scopes that the token does not have: {' '.join(needed)}" if needed else "more than the token allows"
    return ScopeInsufficient(f"the resource server asks for {what}", told, scopes=needed)


def scope_names(text: str) -> tuple[str, ...]:
    """Return the scopes of a server's text, as far as they are any (RFC 6749 section 3.3), and not too many."""
    return tuple(word for word in text.split(" ") if _SCOPE.fullmatch(word))[:MAX_SCOPES]


def step_up_required(told: ServerAnswer, *, acr_values: str, max_age: str, scopes: str) -> StepUpRequired:
    """Return the error for a user who has to authenticate otherwise; the texts are the server's, ``""`` for none."""
    return StepUpRequired(
        "the resource server asks for a stronger or more recent authentication of the user",
        told,
        acr_values=tuple(acr_values.split())[:MAX_SCOPES],
        max_age=timedelta(seconds=int(max_age)) if _SECONDS.fullmatch(max_age) else None,
        scopes=scope_names(scopes),
    )
