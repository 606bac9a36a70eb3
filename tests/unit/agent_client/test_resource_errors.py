from __future__ import annotations

from datetime import timedelta

from agent_client.resource_errors import (
    MAX_SHOWN_CHARACTERS,
    InsecureTransport,
    ResourceRefused,
    ScopeInsufficient,
    ServerAnswer,
    StepUpRequired,
    TokenRefused,
)

ANSWER = ServerAnswer(403, (("X-Header", "value"),), "not for readers", "https://ledger.prod.example/x")


def test_an_error_says_what_happened_and_what_the_server_said() -> None:
    assert str(ResourceRefused("no", ANSWER)) == "no (status 403: 'not for readers')"
    assert str(ResourceRefused("no", ServerAnswer(403))) == "no (status 403)"


def test_an_error_prints_no_more_of_a_servers_text_than_a_few_lines() -> None:
    refused = ResourceRefused("no", ServerAnswer(403, description="x" * 8000))
    assert len(str(refused)) < MAX_SHOWN_CHARACTERS + 50
    assert refused.description == "x" * 8000


def test_an_error_tells_the_answer() -> None:
    refused = ResourceRefused("no", ANSWER)
    told = refused.status, refused.headers, refused.description, refused.resource_metadata
    assert told == (403, (("X-Header", "value"),), "not for readers", "https://ledger.prod.example/x")
    assert refused.answer is ANSWER
    assert "value" not in repr(refused.answer)


def test_each_kind_tells_what_it_is_about() -> None:
    assert TokenRefused("no", ANSWER, retried=True).retried
    assert ScopeInsufficient("no", ANSWER, scopes=("a",)).scopes == ("a",)
    step_up = StepUpRequired("no", ANSWER, acr_values=("gold",), max_age=timedelta(seconds=5), scopes=())
    assert (step_up.acr_values, step_up.max_age, step_up.scopes) == (("gold",), timedelta(seconds=5), ())
    assert all(issubclass(kind, ResourceRefused) for kind in (TokenRefused, ScopeInsufficient, StepUpRequired))
    assert not issubclass(InsecureTransport, ResourceRefused)
