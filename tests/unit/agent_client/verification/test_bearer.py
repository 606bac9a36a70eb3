from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_client.token_checks import MAX_TOKEN_BYTES
from agent_client.verification.bearer import bearer_token
from agent_client.verification.request_errors import AuthorizationMalformed, TokenMissing

TOKEN = "e30.e30.c2ln"


@pytest.mark.parametrize("value", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER {TOKEN}", f"bEaReR    {TOKEN}"])
def test_the_scheme_is_compared_without_regard_to_case(value: str) -> None:
    assert bearer_token([value]) == TOKEN


def test_every_character_of_a_b64token_is_taken() -> None:
    token = "abcXYZ019-._~+/=="
    assert bearer_token([f"Bearer {token}"]) == token


@pytest.mark.parametrize("values", [[], [""], [f"Basic {TOKEN}"], [f"DPoP {TOKEN}"], [f"Bearers {TOKEN}"], [TOKEN]])
def test_no_bearer_token_is_no_fault_of_its_syntax(values: list[str]) -> None:
    with pytest.raises(TokenMissing):
        bearer_token(values)


@pytest.mark.parametrize(
    "value",
    [
        "Bearer",
        "Bearer ",
        f"Bearer\t{TOKEN}",
        f"Bearer \t{TOKEN}",
        f"Bearer {TOKEN} ",
        f"Bearer {TOKEN}\n",
        f"Bearer {TOKEN}\r\nX-Admin: yes",
        f"Bearer  {' ' * 8}{TOKEN}",
        f"Bearer {TOKEN} {TOKEN}",
        f"Bearer {TOKEN}, Bearer {TOKEN}",
        f"Bearer {TOKEN},",
        f'Bearer token="{TOKEN}"',
        f'Bearer "{TOKEN}"',
        f"Bearer={TOKEN}",
        f"Bearer,{TOKEN}",
        f"Bearer:{TOKEN}",
        "Bearer =",
        "Bearer a=b",
        "Bearer tök.en.x",
        "Bearer \N{FULLWIDTH LATIN SMALL LETTER A}",
        f"Bearer\N{NO-BREAK SPACE}{TOKEN}",
        "Bearer " + "a" * (MAX_TOKEN_BYTES + 64),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_malformed_bearer_token_is_refused(value: str) -> None:
    with pytest.raises(AuthorizationMalformed) as refused:
        bearer_token([value])
    assert TOKEN not in str(refused.value)


@pytest.mark.parametrize("other", [f"Bearer {TOKEN}", f"Bearer {TOKEN[::-1]}", "Basic eDp5", "", "Bearer"])
def test_two_headers_are_refused_whatever_they_are(other: str) -> None:
    """One program takes the first and the next one the last."""
    for values in ([f"Bearer {TOKEN}", other], [other, f"Bearer {TOKEN}"]):
        with pytest.raises(AuthorizationMalformed, match="more than one"):
            bearer_token(values)


def test_a_list_that_begins_with_another_scheme_is_not_searched_for_ours() -> None:
    with pytest.raises(TokenMissing):
        bearer_token([f"Basic eDp5, Bearer {TOKEN}"])


def test_the_longest_token_is_taken() -> None:
    assert len(bearer_token(["Bearer " + "a" * MAX_TOKEN_BYTES])) == MAX_TOKEN_BYTES


@given(st.lists(st.text(max_size=40), max_size=3))
def test_whatever_comes_is_a_token_or_a_refusal(values: list[str]) -> None:
    try:
        token = bearer_token(values)
    except (TokenMissing, AuthorizationMalformed):
        return
    assert token.isascii()
    assert values[0].endswith(token)
