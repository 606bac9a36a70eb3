from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from support.numbered_tokens import SECRET, SyncNumberedTokens, issued, token_text

from agent_client.adapters.response import (
    MAX_SCOPES,
    Answer,
    Pass,
    Raise,
    Retry,
    obey,
    scope_names,
    verdict_of,
)
from agent_client.resource_errors import ResourceRefused, ScopeInsufficient, StepUpRequired, TokenRefused

if TYPE_CHECKING:
    from agent_client.adapters.response import Verdict

SENT = issued(1).token


def verdict(status: int, *challenges: str, retried: bool = False, replayable: bool = True) -> Verdict:
    headers = (("Date", "today"), *(("Www-Authenticate", challenge) for challenge in challenges))
    return verdict_of(Answer(status, headers), SENT, retried=retried, replayable=replayable)


def error(status: int, *challenges: str, retried: bool = False, replayable: bool = True) -> ResourceRefused:
    raised = verdict(status, *challenges, retried=retried, replayable=replayable)
    assert isinstance(raised, Raise)
    return raised.error


def test_an_invalid_token_is_replaced_once() -> None:
    assert verdict(401, 'Bearer error="invalid_token"') == Retry()
    refused = error(401, 'Bearer error="invalid_token"', retried=True)
    assert isinstance(refused, TokenRefused)
    assert refused.retried


def test_a_body_that_is_gone_is_not_sent_again() -> None:
    refused = error(401, 'Bearer error="invalid_token"', replayable=False)
    assert isinstance(refused, TokenRefused)
    assert not refused.retried


@pytest.mark.parametrize("retried", [False, True])
@pytest.mark.parametrize("replayable", [False, True])
@pytest.mark.parametrize("status", [401, 403])
def test_insufficient_scope_is_never_tried_again(status: int, *, retried: bool, replayable: bool) -> None:
    line = 'bearer error="insufficient_scope", scope="a b"'
    refused = error(status, line, retried=retried, replayable=replayable)
    assert isinstance(refused, ScopeInsufficient)
    assert refused.scopes == ("a", "b")


def test_insufficient_scope_need_not_say_which() -> None:
    refused = error(403, "Bearer error=insufficient_scope")
    assert isinstance(refused, ScopeInsufficient)
    assert refused.scopes == ()
    assert "more than the token allows" in str(refused)


def test_a_step_up_challenge_says_what_is_wanted() -> None:
    refused = error(401, "Bearer error=insufficient_user_authentication, acr_values=gold, max_age=0, scope=a")
    assert isinstance(refused, StepUpRequired)
    assert (refused.acr_values, refused.max_age, refused.scopes) == (("gold",), timedelta(0), ("a",))


@pytest.mark.parametrize("max_age", ["", "x", "-1", "1.5", "1" * 10, "\u0661"])
def test_an_age_that_is_none_is_left_out(max_age: str) -> None:
    refused = error(401, f'Bearer error="insufficient_user_authentication", max_age="{max_age}"')
    assert isinstance(refused, StepUpRequired)
    assert refused.max_age is None


@pytest.mark.parametrize(
    ("status", "challenge"),
    [
        (200, 'Bearer error="invalid_token"'),
        (400, 'Bearer error="invalid_token"'),
        (403, 'Bearer error="invalid_token"'),
        (403, 'Bearer error="insufficient_user_authentication"'),
        (407, 'Bearer error="invalid_token"'),
        (401, 'Bearer error="INVALID_TOKEN"'),
        (401, 'Bearer error="invalid_request"'),
        (401, 'Bearer realm="error=invalid_token"'),
        (401, 'Basic realm="x", error="invalid_token"'),
        (401, "Bearer"),
        (401, ""),
    ],
)
def test_everything_else_passes(status: int, challenge: str) -> None:
    assert verdict(status, challenge) == Pass()


def test_a_challenge_is_found_among_others() -> None:
    assert verdict(401, "Negotiate", "Bearer, Bearer error=x, Basic realm=y", "Bearer error=invalid_token") == Retry()


def test_an_answer_without_a_challenge_passes() -> None:
    assert verdict(401) == Pass()


def test_an_error_tells_the_answer_without_the_token() -> None:
    refused = error(
        401,
        f'Bearer error="invalid_token", error_description="{token_text(1)} is old", resource_metadata="https://x"',
        retried=True,
    )
    assert refused.headers[0] == ("Date", "today")
    assert refused.description == "[token] is old"
    assert refused.resource_metadata == "https://x"
    assert SECRET not in repr((refused, str(refused), refused.headers, refused.answer))


def test_scopes_are_those_of_the_grammar_and_not_too_many() -> None:
    assert scope_names(' a  b\\ c" d\u00fc \te ' + "x" * 129) == ("a",)
    assert len(scope_names("a " * (MAX_SCOPES + 1))) == MAX_SCOPES


def test_a_source_learns_of_the_first_token_that_is_refused_and_not_of_the_second() -> None:
    source = SyncNumberedTokens()
    sent = source.get()
    assert not obey(Pass(), source, sent)
    assert source.get() is sent
    assert obey(Retry(), source, sent)
    sent = source.get()
    for refused in (
        error(401, "Bearer error=invalid_token", retried=True),
        error(403, "Bearer error=insufficient_scope"),
    ):
        with pytest.raises(type(refused)) as raised:
            obey(Raise(refused), source, sent)
        assert raised.value is refused
        assert source.get() is sent


def test_a_source_learns_of_a_token_whose_request_is_not_sent_again() -> None:
    source = SyncNumberedTokens()
    sent = source.get()
    with pytest.raises(TokenRefused):
        obey(Raise(error(401, "Bearer error=invalid_token", replayable=False)), source, sent)
    assert source.get() is not sent
