from datetime import timedelta

import pytest

from issuer.core.errors import InvalidTokenRequest, Reason
from issuer.core.token_request import (
    MAX_APPLICATION_BYTES,
    MAX_AUDIENCE_BYTES,
    MAX_SCOPE_BYTES,
    MAX_SCOPES,
    MAX_TTL,
    TokenRequest,
)

AUDIENCE = "https://ledger.prod.example"


def refused_fields(**fields: object) -> list[str]:
    values = {"audience": AUDIENCE, "scopes": ("ledger.read",), **fields}
    with pytest.raises(InvalidTokenRequest) as refused:
        TokenRequest(**values)  # type: ignore[arg-type]
    assert refused.value.reason is Reason.REQUEST_INVALID
    return [violation.field for violation in refused.value.violations]


@pytest.mark.parametrize(
    "audience",
    ["", "a b", "a\n", "ü", "a\x00", "a\x7f", "a" * (MAX_AUDIENCE_BYTES + 1)],
    ids=["empty", "space", "newline", "non-ascii", "nul", "delete", "too long"],
)
def test_refuses_an_audience_that_no_policy_could_spell(audience: str) -> None:
    assert refused_fields(audience=audience) == ["audience"]


@pytest.mark.parametrize(
    ("scopes", "field"),
    [
        ((), "scopes"),
        (("",), "scopes[0]"),
        (("a", "b c"), "scopes[1]"),
        (("a", 'b"'), "scopes[1]"),
        (("a", "b\\"), "scopes[1]"),
        (("a", "b", "a"), "scopes[2]"),
        (("a" * (MAX_SCOPE_BYTES + 1),), "scopes[0]"),
        (tuple(f"s{n}" for n in range(MAX_SCOPES + 1)), "scopes"),
    ],
    ids=["none", "empty", "space", "quote", "backslash", "twice", "too long", "too many"],
)
def test_refuses_scopes_and_names_the_one_at_fault(scopes: tuple[str, ...], field: str) -> None:
    assert refused_fields(scopes=scopes) == [field]


@pytest.mark.parametrize("ttl", [timedelta(0), timedelta(seconds=-1), MAX_TTL + timedelta(microseconds=1)])
def test_refuses_a_ttl_outside_its_bounds(ttl: timedelta) -> None:
    assert refused_fields(ttl=ttl) == ["ttl"]


@pytest.mark.parametrize("application", ["", ".a", "a b", "a/b", "a" * (MAX_APPLICATION_BYTES + 1)])
def test_refuses_an_application_that_is_not_a_name(application: str) -> None:
    assert refused_fields(application=application) == ["application"]


def test_names_every_field_at_fault_at_once() -> None:
    assert refused_fields(audience="", scopes=(), ttl=timedelta(0), application=" ") == [
        "audience",
        "scopes",
        "ttl",
        "application",
    ]


def test_accepts_every_value_at_its_bound() -> None:
    request = TokenRequest(
        audience="a" * MAX_AUDIENCE_BYTES,
        scopes=tuple("s" * (MAX_SCOPE_BYTES - 2) + f"{n:02}" for n in range(MAX_SCOPES)),
        ttl=MAX_TTL,
        application="a" * MAX_APPLICATION_BYTES,
    )
    assert len(request.scopes) == MAX_SCOPES
