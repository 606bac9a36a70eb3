"""Every refusal with its exact header."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from agent_client.challenges import parse_challenges
from agent_client.verification import (
    ApplicationRejected,
    InsufficientScope,
    KeysUnavailable,
    RejectionReason,
    RevocationsUnavailable,
    TokenRejected,
)
from agent_client.verification.http_answers import HttpRefusals, metadata_answer
from agent_client.verification.request_errors import (
    AuthorizationMalformed,
    MethodNotListed,
    StepUpNeeded,
    TokenMissing,
)
from agent_client.verification.resource_metadata import ResourceMetadata

if TYPE_CHECKING:
    from agent_client.verification import VerificationError
    from agent_client.verification.http_answers import HttpAnswer

PLAIN = HttpRefusals("ledger", None)
URL = "https://ledger.prod.example/.well-known/oauth-protected-resource"

TABLE = [
    (TokenMissing(), 401, 'Bearer realm="ledger"'),
    (
        AuthorizationMalformed("the request has more than one Authorization header"),
        400,
        (
            'Bearer realm="ledger", error="invalid_request", '
            'error_description="the request has more than one Authorization header"'
        ),
    ),
    (
        TokenRejected(RejectionReason.EXPIRED),
        401,
        'Bearer realm="ledger", error="invalid_token", error_description="the token has expired"',
    ),
    (
        InsufficientScope(("ledger.read", "ledger.write")),
        403,
        (
            'Bearer realm="ledger", error="insufficient_scope", '
            'error_description="the token does not have every scope that is needed", scope="ledger.read ledger.write"'
        ),
    ),
    (
        ApplicationRejected(),
        403,
        (
            'Bearer realm="ledger", error="insufficient_scope", '
            'error_description="the token is not for an application that may use this"'
        ),
    ),
    (
        StepUpNeeded(["urn:example:gold", "urn:example:silver"], timedelta(minutes=5)),
        401,
        (
            'Bearer realm="ledger", error="insufficient_user_authentication", '
            'error_description="a stronger or more recent authentication is needed", '
            'acr_values="urn:example:gold urn:example:silver", max_age="300"'
        ),
    ),
    (
        StepUpNeeded(max_age=timedelta(0)),
        401,
        (
            'Bearer realm="ledger", error="insufficient_user_authentication", '
            'error_description="a stronger or more recent authentication is needed", max_age="0"'
        ),
    ),
    (KeysUnavailable("10.9.8.7 is not there"), 503, None),
    (RevocationsUnavailable("10.9.8.7 is not there"), 503, None),
]


def header(answer: HttpAnswer, name: str) -> str | None:
    return dict(answer.headers).get(name.encode(), b"").decode() or None


@pytest.mark.parametrize(("error", "status", "challenge"), TABLE, ids=lambda value: type(value).__name__)
def test_each_refusal_has_its_answer(error: VerificationError, status: int, challenge: str | None) -> None:
    answer = PLAIN.answer(error)
    assert answer.status == status
    assert header(answer, "www-authenticate") == challenge
    assert header(answer, "cache-control") == "no-store"
    assert header(answer, "content-type") == "application/problem+json"
    assert header(answer, "content-length") == str(len(answer.body))
    assert json.loads(answer.body)["status"] == status


@pytest.mark.parametrize(("error", "status", "challenge"), TABLE, ids=lambda value: type(value).__name__)
def test_every_challenge_says_where_the_metadata_is(
    error: VerificationError, status: int, challenge: str | None
) -> None:
    answer = HttpRefusals(None, URL).answer(error)
    assert answer.status == status
    if challenge is None:
        assert header(answer, "www-authenticate") is None
        return
    parsed = parse_challenges([header(answer, "www-authenticate") or ""])
    assert [(one.scheme, one.parameters["resource_metadata"]) for one in parsed] == [("Bearer", URL)]
    assert "realm" not in parsed[0].parameters


@pytest.mark.parametrize(
    ("wait", "seconds"),
    [
        (None, "5"),
        (timedelta(0), "1"),
        (timedelta(seconds=-3), "1"),
        (timedelta(seconds=2), "2"),
        (timedelta(seconds=2, milliseconds=1), "3"),
    ],
)
def test_without_keys_the_client_is_told_when_to_come_back(wait: timedelta | None, seconds: str) -> None:
    answer = PLAIN.answer(KeysUnavailable("10.9.8.7 is not there", retry_after=wait))
    assert header(answer, "retry-after") == seconds
    assert b"10.9.8.7" not in answer.body, "the message is for our log"


@pytest.mark.parametrize("reason", list(RejectionReason))
def test_every_description_keeps_to_the_characters_of_rfc_6750(reason: RejectionReason) -> None:
    challenge = parse_challenges([header(PLAIN.answer(TokenRejected(reason)), "www-authenticate") or ""])[0]
    description = challenge.parameters["error_description"]
    assert description
    assert all(" " <= character <= "~" and character not in '"\\' for character in description)


def test_the_body_says_what_the_challenge_says() -> None:
    body = json.loads(PLAIN.answer(InsufficientScope(("ledger.write",))).body)
    assert body == {
        "title": "Forbidden",
        "status": 403,
        "detail": "the token does not have every scope that is needed",
        "error": "insufficient_scope",
        "scope": "ledger.write",
    }


def test_a_realm_cannot_break_out_of_its_quotes() -> None:
    value = header(HttpRefusals('a", error="x\r\nSet-Cookie: y', None).answer(TokenMissing()), "www-authenticate")
    assert value == 'Bearer realm="a\\", error=\\"x??Set-Cookie: y"'


@pytest.mark.parametrize(
    "error", [TokenMissing(), AuthorizationMalformed("x"), StepUpNeeded(["a"], timedelta(1)), MethodNotListed()]
)
def test_errors_survive_being_copied_and_pickled(error: VerificationError) -> None:
    for made in (copy.copy(error), pickle.loads(pickle.dumps(error))):  # noqa: S301 - our own bytes
        assert type(made) is type(error)
        assert vars(made) == vars(error)


@pytest.mark.parametrize(
    ("acr_values", "max_age", "fault"),
    [
        ([], None, ValueError),
        (["a b"], None, ValueError),
        (['a"'], None, ValueError),
        (["a\n"], None, ValueError),
        ([""], None, ValueError),
        (["a"], timedelta(seconds=-1), ValueError),
        ("gold", None, TypeError),
        (["a"], 300, TypeError),
    ],
)
def test_a_step_up_that_says_nothing_sensible_cannot_be_raised(
    acr_values: list[str], max_age: timedelta | None, fault: type[Exception]
) -> None:
    with pytest.raises(fault):
        StepUpNeeded(acr_values, max_age)


def test_metadata_are_served_to_get_and_head_alone() -> None:
    metadata = ResourceMetadata("https://ledger.prod.example", ["https://issuer.prod.example"])
    answer = metadata_answer(metadata, "GET")
    assert (answer.status, header(answer, "content-type"), answer.body) == (
        200,
        "application/json",
        metadata.document(),
    )
    head = metadata_answer(metadata, "HEAD")
    assert (head.status, head.headers, head.body) == (200, answer.headers, b"")
    for method in ("POST", "OPTIONS", "get", ""):
        refused = metadata_answer(metadata, method)
        assert (refused.status, header(refused, "allow")) == (405, "GET, HEAD")
