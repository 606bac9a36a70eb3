import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.minting import NOW, NOW_SECONDS, Decision, full_decision, plain_decision

from issuer.core.claims import TokenProfile
from issuer.core.status_index import StatusIndex


def claims(decision: Decision) -> dict[str, object]:
    parsed: dict[str, object] = json.loads(decision.payload())
    return parsed


def test_plain_token_has_the_claims_of_rfc_9068_and_no_others() -> None:
    assert claims(plain_decision()) == {
        "iss": "https://issuer.prod.example",
        "sub": "spiffe://prod.example/ns/payments/sa/settler",
        "client_id": "spiffe://prod.example/ns/payments/sa/settler",
        "aud": "https://ledger.prod.example",
        "exp": NOW_SECONDS + 90,
        "iat": NOW_SECONDS,
        "nbf": NOW_SECONDS - 5,
        "jti": "token-1",
        "scope": "ledger.read ledger.write",
    }


def test_each_optional_claim_is_there_when_it_is_called_for() -> None:
    plain, full = claims(plain_decision()), claims(full_decision())
    assert {name: value for name, value in full.items() if name not in plain} == {
        "application": "payments",
        "cnf": {"x5t#S256": "4OHi4-Tl5ufo6err7O3u7_Dx8vP09fb3-Pn6-_z9_v8"},
        "dev": True,
    }


def test_a_token_names_its_entry_in_a_status_list() -> None:
    entry = StatusIndex(2_048_000_001, 131_071)
    plain = claims(replace(plain_decision(), status=entry.number))
    assert plain["status"] == {
        "status_list": {"idx": 131_071, "uri": "https://issuer.prod.example/status-lists/2048000001"}
    }


@pytest.mark.parametrize("microsecond", [0, 1, 500_000, 999_999])
def test_issued_at_is_rounded_down(microsecond: int) -> None:
    decision = replace(plain_decision(), now=NOW.replace(microsecond=microsecond))
    assert claims(decision)["iat"] == NOW_SECONDS


@pytest.mark.parametrize(("lifetime", "seconds"), [(90.0, 90), (90.999999, 90), (10.5, 10)])
def test_expiry_is_rounded_down(lifetime: float, seconds: int) -> None:
    decision = plain_decision().with_grant(lifetime=timedelta(seconds=lifetime))
    assert claims(decision)["exp"] == NOW_SECONDS + seconds


@given(
    microsecond=st.integers(0, 999_999),
    lifetime=st.timedeltas(min_value=timedelta(seconds=10), max_value=timedelta(days=366)),
)
def test_expiry_never_passes_the_granted_lifetime(microsecond: int, lifetime: timedelta) -> None:
    now = NOW.replace(microsecond=microsecond)
    decision = replace(plain_decision().with_grant(lifetime=lifetime), now=now)
    parsed = json.loads(decision.payload())
    assert timedelta(seconds=parsed["exp"] - parsed["iat"]) <= lifetime
    assert parsed["exp"] <= (now + lifetime).timestamp()


@given(st.text(st.characters(min_codepoint=0, max_codepoint=0x10FFFF, exclude_categories=["Cs"]), min_size=1))
def test_every_text_arrives_as_it_was(text: str) -> None:
    """The JSON is written by hand: nothing in a value can end its string or add a member."""
    decision = replace(plain_decision().with_grant(audience=text, application=text, scopes=(text,)), token_id=text)
    parsed = claims(replace(decision, profile=TokenProfile(text)))
    names = ("aud", "application", "scope", "jti", "iss")
    assert {name: parsed[name] for name in names} == dict.fromkeys(names, text)
    assert len(parsed) == 10
