"""What a verified token of an OIDC issuer has to say, and what makes it count for nothing."""

from __future__ import annotations

from typing import Any

import pytest

from issuer.core.assertion import (
    LEEWAY_SECONDS,
    MAX_LIFETIME_SECONDS,
    MAX_NONCE_CHARACTERS,
    MAX_SUBJECT_CHARACTERS,
    Assertion,
    AssertionFault,
    AssertionRefused,
    assertion_of,
)

NOW = 1_795_521_600
ISSUER = "https://login.example"
AUDIENCE = "spiffe-issuer"
GOOD = {"iss": ISSUER, "aud": AUDIENCE, "sub": "00u1", "iat": NOW - 10, "exp": NOW + 300}
OMIT = object()


def read(**changes: object) -> Assertion:
    claims: dict[str, Any] = {name: value for name, value in {**GOOD, **changes}.items() if value is not OMIT}
    return assertion_of(claims, source="people", issuer=ISSUER, audience=AUDIENCE, fingerprint="f" * 64, now=NOW)


def fault(**changes: object) -> AssertionFault:
    with pytest.raises(AssertionRefused) as refused:
        read(**changes)
    return refused.value.fault


def test_says_whom_it_is_about() -> None:
    found = read(auth_time=NOW - 20, nonce="sha256:1", acr="phr")
    assert (found.source, found.issuer, found.subject, found.audience) == ("people", ISSUER, "00u1", AUDIENCE)
    assert (found.issued_at, found.expires_at, found.auth_time, found.nonce) == (
        NOW - 10,
        NOW + 300,
        NOW - 20,
        "sha256:1",
    )
    assert found.claims["acr"] == "phr"


def test_what_it_does_not_say_is_absent() -> None:
    found = read()
    assert (found.auth_time, found.nonce) == (None, "")


def test_its_repr_shows_nobody() -> None:
    assert "00u1" not in repr(read(nonce="n-1"))
    assert "n-1" not in repr(read(nonce="n-1"))


def test_an_audience_may_be_a_list_of_one() -> None:
    assert read(aud=[AUDIENCE]).audience == AUDIENCE


@pytest.mark.parametrize("value", ["other", [AUDIENCE, "other"], [], [AUDIENCE, AUDIENCE], None, {AUDIENCE: 1}, OMIT])
def test_a_token_that_is_not_for_us_alone_is_refused(value: object) -> None:
    assert fault(aud=value) is AssertionFault.AUDIENCE_WRONG


@pytest.mark.parametrize("value", [ISSUER + "/", ISSUER.upper(), [ISSUER], OMIT])
def test_another_issuers_token_is_refused(value: object) -> None:
    assert fault(iss=value) is AssertionFault.ISSUER_UNKNOWN


def test_a_logout_token_is_no_assertion() -> None:
    assert fault(events={"http://schemas.openid.net/event/backchannel-logout": {}}) is AssertionFault.TYPE_WRONG


@pytest.mark.parametrize("name", ["iat", "exp"])
@pytest.mark.parametrize("value", [OMIT, None, "1795521600", 1795521600.5, True, 0, -1, 1 << 40])
def test_a_time_that_is_none_is_refused(name: str, value: object) -> None:
    assert fault(**{name: value}) is AssertionFault.CLAIM_INVALID


@pytest.mark.parametrize("name", ["nbf", "auth_time"])
@pytest.mark.parametrize("value", [None, "1", True, 0])
def test_a_time_that_may_be_absent_is_a_time_if_it_is_there(name: str, value: object) -> None:
    assert fault(**{name: value}) is AssertionFault.CLAIM_INVALID


def test_it_ends_with_exp_and_the_leeway() -> None:
    assert read(exp=NOW - LEEWAY_SECONDS + 1).expires_at == NOW - LEEWAY_SECONDS + 1
    assert fault(exp=NOW - LEEWAY_SECONDS) is AssertionFault.EXPIRED


@pytest.mark.parametrize("name", ["iat", "nbf", "auth_time"])
def test_what_is_of_the_future_is_refused(name: str) -> None:
    assert read(**{name: NOW + LEEWAY_SECONDS}) is not None
    assert fault(**{name: NOW + LEEWAY_SECONDS + 1}) is AssertionFault.NOT_YET_VALID


def test_a_token_that_lives_longer_than_a_day_is_refused() -> None:
    assert read(iat=NOW, exp=NOW + MAX_LIFETIME_SECONDS) is not None
    assert fault(iat=NOW, exp=NOW + MAX_LIFETIME_SECONDS + 1) is AssertionFault.LIVES_TOO_LONG


@pytest.mark.parametrize("value", [OMIT, None, "", 7, ["00u1"], "a\nb", "x" * (MAX_SUBJECT_CHARACTERS + 1)])
def test_a_token_about_nobody_is_refused(value: object) -> None:
    assert fault(sub=value) is AssertionFault.CLAIM_INVALID


@pytest.mark.parametrize("value", [None, "", 7, "x" * (MAX_NONCE_CHARACTERS + 1)])
def test_a_nonce_that_cannot_be_read_is_refused(value: object) -> None:
    assert fault(nonce=value) is AssertionFault.CLAIM_INVALID


def test_a_refusal_tells_nothing_of_the_token() -> None:
    assert str(AssertionRefused(AssertionFault.EXPIRED)) == "the token has expired"
