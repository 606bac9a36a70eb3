"""A finished token that says more, or other, than was decided is refused; only the decided one passes."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.minting import KEY_ID, NOW, NOW_SECONDS, Decision, full_decision, plain_decision

from issuer.core.claims import TokenProfile
from issuer.core.claims_check import ClaimsMismatch
from issuer.core.status_index import StatusIndex
from issuer.core.token import signing_input

Claims = dict[str, Any]


def set_to(name: str, value: object) -> Callable[[Claims], None]:
    return lambda claims: claims.__setitem__(name, value)


TAMPERED = {
    "iss-other": ("iss", set_to("iss", "https://issuer.evil.example")),
    "iss-slash": ("iss", set_to("iss", "https://issuer.prod.example/")),
    "iss-list": ("iss", set_to("iss", ["https://issuer.prod.example"])),
    "sub-other": ("sub", set_to("sub", "spiffe://prod.example/ns/payments/sa/admin")),
    "sub-upper": ("sub", set_to("sub", "spiffe://PROD.example/ns/payments/sa/settler")),
    "client_id-other": ("client_id", set_to("client_id", "spiffe://prod.example/ns/payments/sa/admin")),
    "aud-other": ("aud", set_to("aud", "https://payroll.prod.example")),
    "aud-two": ("aud", set_to("aud", ["https://ledger.prod.example", "https://payroll.prod.example"])),
    "aud-list-of-one": ("aud", set_to("aud", ["https://ledger.prod.example"])),
    "aud-empty": ("aud", set_to("aud", "")),
    "scope-more": ("scope", set_to("scope", "ledger.read ledger.write ledger.refund")),
    "scope-less": ("scope", set_to("scope", "ledger.read")),
    "scope-other": ("scope", set_to("scope", "ledger.read ledger.refund")),
    "scope-twice": ("scope", set_to("scope", "ledger.read ledger.write ledger.write")),
    "scope-empty": ("scope", set_to("scope", "")),
    "scope-list": ("scope", set_to("scope", ["ledger.read", "ledger.write"])),
    "scope-two-spaces": ("scope", set_to("scope", "ledger.read  ledger.write")),
    "jti-other": ("jti", set_to("jti", "token-2")),
    "jti-empty": ("jti", set_to("jti", "")),
    "application-other": ("application", set_to("application", "treasury")),
    "application-null": ("application", set_to("application", None)),
    "exp-one-second-more": ("exp", set_to("exp", NOW_SECONDS + 91)),
    "exp-over": ("exp", set_to("exp", NOW_SECONDS)),
    "exp-float": ("exp", set_to("exp", NOW_SECONDS + 89.5)),
    "exp-text": ("exp", set_to("exp", str(NOW_SECONDS + 90))),
    "exp-true": ("exp", set_to("exp", value=True)),
    "exp-far": ("exp", set_to("exp", 10**30)),
    "exp-negative": ("exp", set_to("exp", -1)),
    "iat-future": ("iat", set_to("iat", NOW_SECONDS + 1)),
    "iat-past": ("iat", set_to("iat", NOW_SECONDS - 1)),
    "iat-float": ("iat", set_to("iat", float(NOW_SECONDS))),
    "nbf-after-iat": ("nbf", set_to("nbf", NOW_SECONDS + 1)),
    "nbf-early": ("nbf", set_to("nbf", NOW_SECONDS - 6)),
    "nbf-zero": ("nbf", set_to("nbf", 0)),
    "cnf-other": ("cnf", set_to("cnf", {"x5t#S256": "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0"})),
    "cnf-empty": ("cnf", set_to("cnf", {})),
    "cnf-padded": ("cnf", set_to("cnf", {"x5t#S256": "4OHi4-Tl5ufo6err7O3u7_Dx8vP09fb3-Pn6-_z9_v8="})),
    "cnf-two-keys": ("cnf", lambda claims: claims["cnf"].update(jkt="0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I")),
    "dev-false": ("dev", set_to("dev", value=False)),
    "dev-one": ("dev", set_to("dev", 1)),
    "unknown": ("groups", set_to("groups", ["admin"])),
    "act": ("act", set_to("act", {"sub": "spiffe://prod.example/x"})),
}


@pytest.mark.parametrize(("claim", "tamper"), TAMPERED.values(), ids=TAMPERED.keys())
def test_refuses_a_tampered_claim(claim: str, tamper: Callable[[Claims], None]) -> None:
    claims = json.loads(full_decision().payload())
    tamper(claims)
    with pytest.raises(ClaimsMismatch) as refusal:
        full_decision().check_payload(json.dumps(claims).encode())
    assert refusal.value.claim == claim


@pytest.mark.parametrize("claim", sorted(json.loads(full_decision().payload())))
def test_refuses_a_missing_claim(claim: str) -> None:
    claims = json.loads(full_decision().payload())
    del claims[claim]
    with pytest.raises(ClaimsMismatch, match=claim):
        full_decision().check_payload(json.dumps(claims).encode())


@pytest.mark.parametrize("claim", ["application", "cnf", "dev"])
def test_refuses_an_optional_claim_that_was_not_decided(claim: str) -> None:
    claims = json.loads(plain_decision().payload())
    claims[claim] = json.loads(full_decision().payload())[claim]
    with pytest.raises(ClaimsMismatch, match=claim):
        plain_decision().check_payload(json.dumps(claims).encode())


@pytest.mark.parametrize("claim", sorted(json.loads(full_decision().payload())))
def test_refuses_a_member_that_occurs_twice(claim: str) -> None:
    """RFC 7519 section 4: which of the two counts would be the verifier's choice."""
    payload = full_decision().payload()
    value = json.dumps(json.loads(payload)[claim])
    twice = b'{"%b":%b,' % (claim.encode(), value.encode()) + payload[1:]
    with pytest.raises(ClaimsMismatch, match="each member once"):
        full_decision().check_payload(twice)


def test_refuses_a_member_of_cnf_that_occurs_twice() -> None:
    payload = full_decision().payload().replace(b'{"x5t', b'{"x5t#S256":"evil","x5t')
    with pytest.raises(ClaimsMismatch, match="each member once"):
        full_decision().check_payload(payload)


@pytest.mark.parametrize("decision", [plain_decision(), full_decision()], ids=["plain", "full"])
def test_passes_what_was_decided(decision: Decision) -> None:
    decision.check_payload(decision.payload())


@given(
    microsecond=st.integers(0, 999_999),
    lifetime=st.timedeltas(min_value=timedelta(seconds=10), max_value=timedelta(days=366)),
    full=st.booleans(),
)
def test_passes_every_token_that_the_builder_makes(microsecond: int, lifetime: timedelta, full: bool) -> None:  # noqa: FBT001
    now = NOW.replace(microsecond=microsecond)
    decision = (full_decision() if full else plain_decision()).with_grant(lifetime=lifetime)
    decision = decision.with_request(ttl=lifetime).with_caller(not_after=now + lifetime)
    decision = replace(decision, now=now)
    decision.check_payload(decision.payload())


@given(st.binary(max_size=200))
def test_refuses_bytes_that_are_not_a_token(noise: bytes) -> None:
    for to_sign in (noise, signing_input("ES256", KEY_ID, noise)):
        with pytest.raises(ClaimsMismatch):
            full_decision().check(to_sign)


@given(position=st.integers(0, 1000), value=st.integers(0, 255))
def test_refuses_or_does_not_notice_any_changed_byte(position: int, value: int) -> None:
    """A changed byte either is refused or spells the same claims."""
    to_sign = bytearray(signing_input("ES256", KEY_ID, full_decision().payload()))
    start = to_sign.index(b".") + 1
    to_sign[start + position % (len(to_sign) - start)] = value
    try:
        full_decision().check(bytes(to_sign))
    except ClaimsMismatch:
        return
    body = bytes(to_sign[start:])
    claims = json.loads(urlsafe_b64decode(body + b"=" * (-len(body) % 4)))
    assert claims == json.loads(full_decision().payload())


DIFFERENT_DECISIONS: dict[str, tuple[str, Decision]] = {
    # The builder was right about the grant, and the grant is not what this request or caller may have.
    "audience-not-asked-for": ("aud", full_decision().with_request(audience="https://other.example")),
    "scope-not-asked-for": ("scope", full_decision().with_request(scopes=("ledger.read", "ledger.see"))),
    "less-without-allow-partial": ("scope", full_decision().with_grant(scopes=("ledger.read",))),
    "no-scope": ("scope", full_decision().with_grant(scopes=())),
    "a-scope-twice": ("scope", full_decision().with_grant(scopes=("ledger.read", "ledger.read"))),
    "more-with-allow-partial": (
        "scope",
        full_decision().with_request(allow_partial=True, scopes=("ledger.read",)),
    ),
    "application-not-asked-for": ("application", full_decision().with_request(application="treasury")),
    "longer-than-asked-for": ("exp", full_decision().with_request(ttl=timedelta(seconds=89.9))),
    "longer-than-the-certificate": ("exp", full_decision().with_caller(not_after=NOW + timedelta(seconds=89))),
    "already-over": ("exp", full_decision().with_grant(lifetime=timedelta(seconds=0.9))),
    "binding-asked-for-and-not-granted": ("cnf", full_decision().with_grant(bind_certificate=False)),
    "not-a-sha256": ("cnf", full_decision().with_caller(certificate_sha256=b"short")),
    "no-token-id": ("jti", replace(full_decision(), token_id="")),
}


@pytest.mark.parametrize(("claim", "decision"), DIFFERENT_DECISIONS.values(), ids=DIFFERENT_DECISIONS.keys())
def test_refuses_a_grant_that_goes_beyond_request_or_caller(claim: str, decision: Decision) -> None:
    with pytest.raises(ClaimsMismatch) as refusal:
        decision.check_payload(decision.payload())
    assert refusal.value.claim == claim


def test_a_partial_grant_passes_when_the_caller_allowed_it() -> None:
    decision = plain_decision().with_grant(scopes=("ledger.write",)).with_request(allow_partial=True)
    decision.check_payload(decision.payload())


def test_a_grant_may_name_an_application_that_the_caller_did_not() -> None:
    decision = full_decision().with_request(application=None)
    decision.check_payload(decision.payload())


def test_refuses_another_application_than_granted_when_the_caller_named_none() -> None:
    decision = full_decision().with_request(application=None)
    payload = decision.payload().replace(b'"payments"', b'"treasury"')
    with pytest.raises(ClaimsMismatch, match="not the granted one"):
        decision.check_payload(payload)


def test_policy_may_bind_without_being_asked() -> None:
    decision = full_decision().with_request(bind_certificate=False)
    decision.check_payload(decision.payload())


@pytest.mark.parametrize(("end", "passes"), [(NOW_SECONDS + 90, True), (NOW_SECONDS + 89, False)])
def test_expiry_may_equal_the_end_of_the_certificate(end: int, *, passes: bool) -> None:
    decision = full_decision()
    decision = decision.with_caller(not_after=NOW.replace(microsecond=0) + timedelta(seconds=end - NOW_SECONDS))
    if passes:
        decision.check_payload(decision.payload())
        return
    with pytest.raises(ClaimsMismatch, match="certificate"):
        decision.check_payload(decision.payload())


def test_a_token_without_dev_is_refused_by_a_development_issuer_and_the_other_way_round() -> None:
    plain = plain_decision()
    development = replace(plain, profile=TokenProfile(plain.profile.issuer, development=True))
    for builder, checker in ((plain, development), (development, plain)):
        with pytest.raises(ClaimsMismatch, match="dev"):
            checker.check_payload(builder.payload())


HEADERS: dict[str, object] = {
    "alg-none": {"alg": "none", "kid": KEY_ID, "typ": "at+jwt"},
    "alg-hmac": {"alg": "HS256", "kid": KEY_ID, "typ": "at+jwt"},
    "alg-case": {"alg": "es256", "kid": KEY_ID, "typ": "at+jwt"},
    "typ-jwt": {"alg": "ES256", "kid": KEY_ID, "typ": "JWT"},
    "typ-missing": {"alg": "ES256", "kid": KEY_ID},
    "kid-empty": {"alg": "ES256", "kid": "", "typ": "at+jwt"},
    "kid-number": {"alg": "ES256", "kid": 1, "typ": "at+jwt"},
    "more": {"alg": "ES256", "kid": KEY_ID, "typ": "at+jwt", "jku": "https://evil.example"},
    "list": ["alg", "kid", "typ"],
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS.keys())
def test_refuses_a_header_that_is_not_ours(header: object) -> None:
    to_sign = signing_input("ES256", KEY_ID, full_decision().payload())
    encoded = urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=")
    with pytest.raises(ClaimsMismatch):
        full_decision().check(encoded + to_sign[to_sign.index(b".") :])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda to_sign: to_sign + b"=",
        lambda to_sign: to_sign + b".c2ln",
        lambda to_sign: to_sign.replace(b".", b""),
        lambda to_sign: to_sign.replace(b"-", b"+"),
        lambda to_sign: to_sign.replace(b"_", b"/"),
        lambda to_sign: to_sign + b"\n",
        lambda to_sign: to_sign[:-1],
    ],
    ids=["padding", "signature", "no-dot", "plus", "slash", "newline", "cut"],
)
def test_refuses_what_is_not_strictly_two_base64url_segments(spoil: Callable[[bytes], bytes]) -> None:
    decision = replace(
        full_decision(), token_id="~~~???>>>-" * 2
    )  # its base64url has both of the alphabet's own letters
    to_sign = signing_input("ES256", KEY_ID, decision.payload())
    decision.check(to_sign)
    assert spoil(to_sign) != to_sign
    with pytest.raises(ClaimsMismatch):
        decision.check(spoil(to_sign))


@pytest.mark.parametrize("payload", [b"[]", b'""', b"null", b"{} ", b"{}{}", b"\xff{}", b"", b"{", b'{"exp":NaN}'])
def test_refuses_what_is_not_one_json_object(payload: bytes) -> None:
    with pytest.raises(ClaimsMismatch):
        full_decision().check_payload(payload)


LISTED = replace(plain_decision().with_grant(status=True), status=StatusIndex(7, 131_071).number)
URI = "https://issuer.prod.example/status-lists/7"


@pytest.mark.parametrize("number", [0, 1, StatusIndex(1, 0).number, StatusIndex(2_200_000_000, 131_071).number])
def test_passes_the_entry_that_is_recorded(number: int) -> None:
    decision = replace(LISTED, status=number)
    decision.check_payload(decision.payload())


@pytest.mark.parametrize(
    "status",
    [
        None,
        {},
        {"status_list": {"idx": 131_070, "uri": URI}},
        {"status_list": {"idx": 131_071.0, "uri": URI}},
        {"status_list": {"idx": 131_071, "uri": URI + "0"}},
        {"status_list": {"idx": 131_071, "uri": "https://elsewhere.example/status-lists/7"}},
        {"status_list": {"idx": 131_071, "uri": URI, "more": 1}},
        {"status_list": {"idx": 131_071, "uri": URI}, "other": {}},
    ],
)
def test_refuses_another_entry_than_is_recorded(status: object) -> None:
    claims = json.loads(LISTED.payload()) | {"status": status}
    with pytest.raises(ClaimsMismatch, match="status"):
        LISTED.check_payload(json.dumps(claims).encode())


def test_an_index_of_true_is_not_one() -> None:
    decision = replace(LISTED, status=StatusIndex(7, 1).number)
    claims = json.loads(decision.payload()) | {"status": {"status_list": {"idx": True, "uri": URI}}}
    with pytest.raises(ClaimsMismatch, match="status"):
        decision.check_payload(json.dumps(claims).encode())


@pytest.mark.parametrize("number", [None, -1, 1 << 53])
def test_refuses_a_token_that_needs_a_status_without_an_entry(number: int | None) -> None:
    with pytest.raises(ClaimsMismatch, match="status"):
        replace(LISTED, status=number).check_payload(LISTED.payload())


def test_refuses_a_status_that_was_not_called_for_and_a_token_without_one_that_was() -> None:
    with pytest.raises(ClaimsMismatch, match="status"):
        plain_decision().check_payload(LISTED.payload())
    with pytest.raises(ClaimsMismatch, match="status"):
        LISTED.check_payload(plain_decision().payload())


def test_refusal_never_tells_a_value() -> None:
    claims = json.loads(full_decision().payload())
    claims["aud"] = "https://secret.example"
    with pytest.raises(ClaimsMismatch) as refusal:
        full_decision().check_payload(json.dumps(claims).encode())
    assert "secret" not in str(refusal.value)
