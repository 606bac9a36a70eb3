"""The rules, each attacked on its own by a token that is good in everything else."""

from __future__ import annotations

import hmac
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from support.forging import ISSUER, OMIT, SUBJECT, Forge, as_json, claims, encoded, fixed_forge, rsa_key
from support.minting import AUDIENCE, NOW_SECONDS

from agent_client.verification.errors import ApplicationRejected, InsufficientScope, RejectionReason, TokenRejected
from agent_client.verification.key_set import read_key_set
from agent_client.verification.token_rules import MAX_ACTORS, Demand, Expectations, read_token, verified_token
from agent_client.verification.verified_token import Actor

if TYPE_CHECKING:
    from agent_client.verification.verified_token import VerifiedToken

FORGE = fixed_forge()
RSA = Forge(rsa_key())
KEYS = read_key_set({"keys": [FORGE.jwk, RSA.jwk]}).keys
EXPECTED = Expectations(ISSUER, AUDIENCE, frozenset({"ES256", "RS256"}), leeway=5)
CERTIFICATE = b"DER of a certificate"
THUMBPRINT = encoded(sha256(CERTIFICATE).digest())


def verify(
    token: str, *, expected: Expectations = EXPECTED, demand: Demand | None = None, now: float = NOW_SECONDS
) -> VerifiedToken:
    unverified = read_token(token, expected.algorithms, {})
    key = KEYS.get(unverified.header.key_id)
    if key is None:
        raise TokenRejected(RejectionReason.KEY_UNKNOWN)
    return verified_token(unverified, key, expected, demand or Demand(), datetime.fromtimestamp(now, UTC))


def reason_of(token: str, **arguments: Any) -> RejectionReason:
    with pytest.raises(TokenRejected) as refused:
        verify(token, **arguments)
    return refused.value.reason


def malformed(token: str) -> str | None:
    """Return the claim that is blamed."""
    with pytest.raises(TokenRejected) as refused:
        verify(token)
    assert refused.value.reason is RejectionReason.CLAIMS_MALFORMED
    return refused.value.claim


def test_tells_what_a_good_token_says() -> None:
    token = verify(FORGE.token(application="payments", custom={"a": [1]}))
    assert (token.issuer, token.audience) == (ISSUER, AUDIENCE)
    assert (token.subject, token.client_id) == (SUBJECT, SUBJECT)
    assert token.scopes == ("ledger.read", "ledger.write")
    assert token.issued_at == datetime.fromtimestamp(NOW_SECONDS, UTC)
    assert token.expires_at == datetime.fromtimestamp(NOW_SECONDS + 90, UTC)
    assert (token.token_id, token.application, token.certificate_thumbprint) == ("token-1", "payments", None)
    assert not token.development
    assert token.claims == claims(application="payments", custom={"a": [1]})


def test_what_was_verified_cannot_be_changed_and_prints_no_claims() -> None:
    token = verify(FORGE.token(private="x-secret-x"))
    with pytest.raises(TypeError):
        token.claims["sub"] = "spiffe://prod.example/admin"  # type: ignore[index]
    with pytest.raises(AttributeError):
        token.subject = "spiffe://prod.example/admin"  # type: ignore[misc]
    assert "x-secret-x" not in repr(token)


def test_takes_rs256() -> None:
    assert verify(RSA.token()).subject == SUBJECT


# --- 3, 4, 5, 6: algorithm, key, signature


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", "HS256", "es256", "Es256", "ES384", "EdDSA"])
def test_refuses_every_other_algorithm(algorithm: str) -> None:
    header, payload = FORGE.header(alg=algorithm), as_json(claims())
    for signature in ("AA", FORGE.sign(header, payload).rpartition(".")[2]):
        token = f"{encoded(as_json(header))}.{encoded(payload)}.{signature}"
        assert reason_of(token) is RejectionReason.ALGORITHM_NOT_ALLOWED


def test_refuses_alg_none_without_a_signature() -> None:
    token = f"{encoded(as_json(FORGE.header(alg='none')))}.{encoded(as_json(claims()))}."
    assert reason_of(token) is RejectionReason.MALFORMED


@pytest.mark.parametrize("form", ["pem", "der", "raw", "jwk"])
@pytest.mark.parametrize("algorithm", ["HS256", "ES256", "RS256"])
def test_refuses_hmac_with_the_public_key_as_its_secret(form: str, algorithm: str) -> None:
    public = FORGE.key.public_key()
    secret = {
        "pem": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "der": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "raw": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)[-65:],
        "jwk": as_json(FORGE.jwk),
    }[form]
    signed = f"{encoded(as_json(FORGE.header(alg=algorithm)))}.{encoded(as_json(claims()))}"
    token = f"{signed}.{encoded(hmac.digest(secret, signed.encode(), 'sha256'))}"
    assert reason_of(token) in {
        RejectionReason.ALGORITHM_NOT_ALLOWED,
        RejectionReason.ALGORITHM_NOT_OF_KEY,
        RejectionReason.SIGNATURE_WRONG,
    }


def test_refuses_an_algorithm_that_this_verifier_does_not_take() -> None:
    only = replace(EXPECTED, algorithms=frozenset({"ES256"}))
    assert reason_of(RSA.token(), expected=only) is RejectionReason.ALGORITHM_NOT_ALLOWED


def test_refuses_a_key_used_with_another_algorithm() -> None:
    assert reason_of(RSA.sign(FORGE.header(alg="RS256"))) is RejectionReason.ALGORITHM_NOT_OF_KEY
    assert reason_of(FORGE.sign(RSA.header(alg="ES256"))) is RejectionReason.ALGORITHM_NOT_OF_KEY


def test_refuses_the_key_of_another_issuer_under_the_same_name() -> None:
    assert reason_of(Forge(kid=FORGE.key_id).token()) is RejectionReason.SIGNATURE_WRONG
    assert reason_of(Forge().token()) is RejectionReason.KEY_UNKNOWN


@pytest.mark.parametrize("part", [1, 2])
def test_refuses_a_token_of_which_one_character_was_changed(part: int) -> None:
    parts = FORGE.token().split(".")
    for place in range(0, len(parts[part]) - 1, 7):
        changed = list(parts)
        other = "B" if parts[part][place] == "A" else "A"
        changed[part] = parts[part][:place] + other + parts[part][place + 1 :]
        assert reason_of(".".join(changed)) is RejectionReason.SIGNATURE_WRONG


def test_refuses_parts_of_two_good_tokens() -> None:
    one, two = FORGE.token().split("."), FORGE.token(scope="ledger.admin").split(".")
    assert reason_of(".".join([one[0], two[1], one[2]])) is RejectionReason.SIGNATURE_WRONG


def test_looks_at_no_claim_before_the_signature_holds() -> None:
    payload = encoded(b"[" * 8000)
    header, _, signature = FORGE.token().split(".")
    assert reason_of(f"{header}.{payload}.{signature}") is RejectionReason.SIGNATURE_WRONG


# --- 7: the claims


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}garbage",
        b"[]",
        b"null",
        b'"text"',
        as_json(claims())[:-1] + b',"aud":"https://payroll.prod.example"}',
        as_json(claims())[:-1] + b',"act":{"sub":"a","sub":"b"}}',
        as_json(claims())[:-1] + b',"x":NaN}',
        as_json(claims())[:-1] + b',"x":1e400}',
        as_json(claims())[:-1] + b',"x":"\\ud800"}',
        as_json(claims())[:-1] + b',"x":' + b"[" * 2000 + b"]" * 2000 + b"}",
        as_json(claims()) + as_json(claims()),
        as_json(claims()) + b"\0",
        b"\xef\xbb\xbf" + as_json(claims()),
        json.dumps(claims()).encode("utf-16"),
        as_json(claims()).replace(b"ledger", b"ledg\xffr"),
    ],
)
def test_refuses_claims_that_are_no_strict_object(payload: bytes) -> None:
    token = FORGE.sign(payload=payload)
    if payload:
        assert malformed(token) is None
    else:
        assert reason_of(token) is RejectionReason.MALFORMED


@pytest.mark.parametrize("claim", ["iss", "sub", "client_id", "aud", "exp", "iat", "jti"])
@pytest.mark.parametrize("value", [OMIT, None, True, False, {}, 1.5, -1, 0, ""])
def test_needs_every_claim_of_rfc_9068_with_its_type(claim: str, value: object) -> None:
    if claim in ("iss", "aud") and value == "":
        expected = RejectionReason.ISSUER_WRONG if claim == "iss" else RejectionReason.AUDIENCE_WRONG
        assert reason_of(FORGE.token(**{claim: value})) is expected
    else:
        # Without `sub`, `client_id` has nothing to be equal to.
        assert malformed(FORGE.token(**{claim: value})) == claim


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
@pytest.mark.parametrize(
    "number",
    [
        *("99999999999", f'"{NOW_SECONDS + 60}"', "true", "null", "[1]", "-1", "0", "253402300800"),
        *(f"{NOW_SECONDS}.0", "1.7e9", "1e12", "1e308", "9" * 25, "9" * 400, "18446744073709551616"),
    ],
)
def test_takes_whole_seconds_only(claim: str, number: str) -> None:
    payload = as_json(claims(**{claim: "here"})).replace(b'"here"', number.encode())
    if number == "99999999999" and claim == "exp":
        assert verify(FORGE.sign(payload=payload)).expires_at.year == 5138
    elif number == "99999999999" and claim == "nbf":
        assert reason_of(FORGE.sign(payload=payload)) is RejectionReason.NOT_YET_VALID
    else:
        assert malformed(FORGE.sign(payload=payload)) == ("exp" if number == "99999999999" else claim)


def test_takes_the_first_moment_there_is_and_the_last() -> None:
    assert verify(FORGE.token(iat=1, nbf=1)).issued_at == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert verify(FORGE.token(exp=253402300799)).expires_at == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize("lifetime", [0, -1])
def test_refuses_a_token_that_never_lived(lifetime: int) -> None:
    assert malformed(FORGE.token(exp=NOW_SECONDS + lifetime)) == "exp"
    assert verify(FORGE.token(exp=NOW_SECONDS + 1)).token_id == "token-1"


@pytest.mark.parametrize(
    "identity",
    [
        *(
            "alice",
            "https://prod.example/a",
            "SPIFFE://prod.example/a",
            "spiffe://Prod.example/a",
            "spiffe://prod.example",
        ),
        *(
            "spiffe://prod.example/",
            "spiffe://prod.example/a/",
            "spiffe://prod.example//a",
            "spiffe:///a",
            "spiffe://a/b?c",
        ),
        *("spiffe://prod.example/.", "spiffe://prod.example/../a", "spiffe://prod.example/a/..", "spiffe://a/b#c"),
        *(
            "spiffe://prod.example:8080/a",
            "spiffe://u@prod.example/a",
            "spiffe://prod.example/%61",
            "spiffe://\u0430/b",
        ),
        *(
            "spiffe://prod.example/a\n",
            "spiffe://prod.example/a ",
            " spiffe://prod.example/a",
            "spiffe://a/" + "b" * 2038,
        ),
        "spiffe://" + "a" * 256 + "/b",
    ],
)
def test_refuses_a_subject_that_is_no_workload(identity: str) -> None:
    assert malformed(FORGE.token(sub=identity, client_id=identity)) == "sub"
    assert malformed(FORGE.token(client_id=identity, act={"sub": "x", "iss": "y"})) == "client_id"


@pytest.mark.parametrize("identity", ["spiffe://a/b", "spiffe://a_b-c.d/..a/b../.../A-_.9", "spiffe://a/" + "b" * 2037])
def test_takes_every_canonical_spiffe_id(identity: str) -> None:
    assert verify(FORGE.token(sub=identity, client_id=identity)).subject == identity


GATEWAY = "spiffe://prod.example/ns/gateway/sa/front"


def act_of(*actors: str) -> dict[str, object]:
    """Return the chain of these actors, the outermost first."""
    act: dict[str, object] = {}
    for actor in reversed(actors):
        act = {"sub": actor, "iss": ISSUER, **({"act": act} if act else {})}
    return act


def test_takes_another_client_only_where_it_acts_for_the_subject() -> None:
    assert malformed(FORGE.token(client_id=GATEWAY)) == "client_id"
    assert malformed(FORGE.token(client_id=GATEWAY, act=act_of("spiffe://prod.example/other", GATEWAY))) == "client_id"
    token = verify(FORGE.token(client_id=GATEWAY, act=act_of(GATEWAY, "spiffe://prod.example/other")))
    assert (token.subject, token.client_id) == (SUBJECT, GATEWAY)
    assert token.actors == (Actor(GATEWAY, ISSUER), Actor("spiffe://prod.example/other", ISSUER))
    assert verify(FORGE.token()).actors == ()


@pytest.mark.parametrize(
    "act",
    [
        None,
        [],
        "x",
        True,
        {},
        [act_of(GATEWAY)],
        {"sub": GATEWAY},
        {"iss": ISSUER},
        {"sub": "", "iss": ISSUER},
        {"sub": GATEWAY, "iss": ""},
        {"sub": [GATEWAY], "iss": ISSUER},
        {**act_of(GATEWAY), "act": None},
        {**act_of(GATEWAY), "act": "x"},
        {**act_of(GATEWAY), "act": {"sub": "x"}},
    ],
)
def test_refuses_a_chain_of_actors_that_cannot_be_read(act: object) -> None:
    assert malformed(FORGE.token(client_id=GATEWAY, act=act)) == "act"


def test_bounds_the_chain_of_actors() -> None:
    longest = [GATEWAY, *(f"spiffe://prod.example/{number}" for number in range(MAX_ACTORS - 1))]
    assert len(verify(FORGE.token(client_id=GATEWAY, act=act_of(*longest))).actors) == MAX_ACTORS
    longer = FORGE.token(client_id=GATEWAY, act=act_of(*longest, "spiffe://prod.example/x"))
    assert malformed(longer) is None, "nothing nests so deep"


def test_takes_a_subject_of_a_provider_only_where_a_workload_acts_for_it() -> None:
    alice = "https://login.example/t#auth0%7Calice"
    assert verify(FORGE.token(sub=alice, client_id=GATEWAY, act=act_of(GATEWAY))).subject == alice
    assert malformed(FORGE.token(sub=alice, client_id=GATEWAY)) == "sub"
    for other in (
        "alice",
        "https://login.example",
        "https://login.example#",
        "https://a#b#c",
        "https://a#b|c",
        "ftp://a#b",
    ):
        assert malformed(FORGE.token(sub=other, client_id=GATEWAY, act=act_of(GATEWAY))) == "sub"


@pytest.mark.parametrize(
    "scope",
    [
        None,
        "",
        " ",
        "a  b",
        " a",
        "a ",
        "a\tb",
        "a\nb",
        "a,b\u00a0",
        'a"b',
        "a\\b",
        "é",
        ["a", "b"],
        7,
        "a b a",
        {"a": 1},
    ],
)
def test_refuses_scopes_that_break_the_grammar(scope: object) -> None:
    assert malformed(FORGE.token(scope=scope)) == "scope"


@pytest.mark.parametrize("claim", ["jti", "application"])
@pytest.mark.parametrize("value", ["", "a b", "a\n", "é", "x" * 257, 7, None, ["a"]])
def test_refuses_names_that_are_none(claim: str, value: object) -> None:
    assert malformed(FORGE.token(**{claim: value})) == claim


# --- 8, 9: issuer and audience


@pytest.mark.parametrize(
    "issuer",
    [
        *(f"{ISSUER}/", ISSUER.upper(), ISSUER.replace("https", "http"), f"{ISSUER}.evil.example", f"{ISSUER}:443"),
        *("https://evil.example", f"{ISSUER} ", f" {ISSUER}", ISSUER[:-1], ISSUER.replace("i", "\u0456", 1), ""),
    ],
)
def test_refuses_another_issuer(issuer: str) -> None:
    assert reason_of(FORGE.token(iss=issuer)) is RejectionReason.ISSUER_WRONG


@pytest.mark.parametrize(
    "audience",
    [
        "https://payroll.prod.example",  # another API
        [AUDIENCE],
        [AUDIENCE, "https://payroll.prod.example"],
        [],
        [[AUDIENCE]],
        "",
        AUDIENCE[:-1],
        AUDIENCE[1:],
        f"{AUDIENCE}/",
        f"{AUDIENCE}.evil.example",
        f"{AUDIENCE},https://payroll.prod.example",
        f"https://payroll.prod.example {AUDIENCE}",
        f"{AUDIENCE} ",
        f"{AUDIENCE}\n",
        f"{AUDIENCE}\0",
        AUDIENCE.upper(),
        AUDIENCE.replace("e", "\u0435"),  # Cyrillic
        AUDIENCE.replace("l", "\uff4c"),  # full-width
        AUDIENCE.replace(".", "\u2024"),
        AUDIENCE.replace("ledger", "led\u00adger"),  # a soft hyphen
        AUDIENCE + "\u200b",
        "*",
        "https://*.prod.example",
    ],
)
def test_refuses_another_audience(audience: object) -> None:
    assert reason_of(FORGE.token(aud=audience)) is RejectionReason.AUDIENCE_WRONG


def test_refuses_an_audience_that_is_neither_text_nor_list() -> None:
    assert malformed(FORGE.token(aud={AUDIENCE: True})) == "aud"


# --- 10: time


@pytest.mark.parametrize("leeway", [0, 5, 60])
def test_a_token_ends_at_exp_and_not_a_moment_later_than_leeway_allows(leeway: float) -> None:
    expected = replace(EXPECTED, leeway=leeway)
    end = NOW_SECONDS + 90 + leeway
    assert verify(FORGE.token(), expected=expected, now=end - 0.001)
    assert reason_of(FORGE.token(), expected=expected, now=end) is RejectionReason.EXPIRED
    assert reason_of(FORGE.token(), expected=expected, now=end + 1) is RejectionReason.EXPIRED


@pytest.mark.parametrize("leeway", [0, 5, 60])
@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_a_token_begins_at_nbf_and_iat_give_or_take_leeway(leeway: float, claim: str) -> None:
    expected = replace(EXPECTED, leeway=leeway)
    token = FORGE.token(**{claim: NOW_SECONDS + 50})
    begin = NOW_SECONDS + 50 - leeway
    assert verify(token, expected=expected, now=begin)
    assert reason_of(token, expected=expected, now=begin - 0.001) is RejectionReason.NOT_YET_VALID


def test_takes_a_token_without_nbf() -> None:
    assert verify(FORGE.token(nbf=OMIT)).token_id == "token-1"


# --- 11: development


def test_refuses_tokens_of_a_development_authority() -> None:
    subject = "spiffe://dev.test/a"
    token = FORGE.token(dev=True, sub=subject, client_id=subject)
    assert reason_of(token) is RejectionReason.DEVELOPMENT_TOKEN
    assert verify(token, expected=replace(EXPECTED, insecure_dev=True)).development


@pytest.mark.parametrize("trust_domain", ["prod.example", "test", "dev.test.example", "devtest", "test.", "x.test-a"])
def test_takes_them_of_no_trust_domain_but_in_test(trust_domain: str) -> None:
    subject = f"spiffe://{trust_domain}/dev.test"
    token = FORGE.token(dev=True, sub=subject, client_id=subject)
    assert reason_of(token, expected=replace(EXPECTED, insecure_dev=True)) is RejectionReason.DEVELOPMENT_TOKEN


@pytest.mark.parametrize("value", [False, None, 1, "true", [True]])
def test_refuses_a_dev_claim_that_is_not_true(value: object) -> None:
    assert malformed(FORGE.token(dev=value)) == "dev"


def test_an_insecure_verifier_takes_ordinary_tokens_too() -> None:
    assert not verify(FORGE.token(), expected=replace(EXPECTED, insecure_dev=True)).development


# --- 12: binding


def test_takes_a_bound_token_with_its_certificate_only() -> None:
    token = FORGE.token(cnf={"x5t#S256": THUMBPRINT})
    assert verify(token, demand=Demand(CERTIFICATE)).certificate_thumbprint == THUMBPRINT
    assert reason_of(token) is RejectionReason.CERTIFICATE_MISSING
    for other in (b"", CERTIFICATE[:-1], CERTIFICATE + b"\0", b"another"):
        assert reason_of(token, demand=Demand(other)) is RejectionReason.CERTIFICATE_WRONG


@pytest.mark.parametrize(
    "confirmation",
    [
        *({}, [], None, "x", True, {"jkt": THUMBPRINT}, {"x5t#S256": THUMBPRINT, "jkt": THUMBPRINT}),
        *(
            {"x5t": THUMBPRINT},
            {"X5T#S256": THUMBPRINT},
            {"x5t#S256": ""},
            {"x5t#S256": None},
            {"x5t#S256": [THUMBPRINT]},
        ),
        *({"x5t#S256": f"{THUMBPRINT}="}, {"x5t#S256": f"{THUMBPRINT}\n"}, {"x5t#S256": THUMBPRINT[:-1]}),
        *({"jwk": {"kty": "EC"}}, {"kid": "a"}, {"x5t#S256": THUMBPRINT, "kid": "a"}, {"x5t#S256": "é" * 43}),
    ],
)
def test_refuses_a_confirmation_that_it_does_not_understand(confirmation: object) -> None:
    """Ignoring it would make a bearer token of one that was not."""
    token = FORGE.token(cnf=confirmation)
    assert reason_of(token, demand=Demand(CERTIFICATE)) is RejectionReason.BINDING_UNKNOWN
    assert reason_of(token) is RejectionReason.BINDING_UNKNOWN


def test_refuses_an_unbound_token_where_binding_is_required() -> None:
    expected = replace(EXPECTED, require_binding=True)
    assert reason_of(FORGE.token(), expected=expected) is RejectionReason.BINDING_REQUIRED
    assert reason_of(FORGE.token(), expected=expected, demand=Demand(CERTIFICATE)) is RejectionReason.BINDING_REQUIRED
    assert verify(FORGE.token(cnf={"x5t#S256": THUMBPRINT}), expected=expected, demand=Demand(CERTIFICATE))


def test_an_unbound_token_may_come_with_any_certificate() -> None:
    assert verify(FORGE.token(), demand=Demand(CERTIFICATE)).certificate_thumbprint is None


# --- 13, 14: scopes and application


@pytest.mark.parametrize("scopes", [(), ("ledger.read",), ("ledger.write", "ledger.read")])
def test_takes_a_token_with_the_scopes_that_are_needed(scopes: tuple[str, ...]) -> None:
    token = verify(FORGE.token(), demand=Demand(scopes=scopes))
    token.require(*scopes)


@pytest.mark.parametrize(
    "scopes",
    [("ledger.admin",), ("ledger.read", "ledger.admin"), ("ledger",), ("LEDGER.READ",), ("ledger.read ",), ("",)],
)
def test_refuses_a_token_that_lacks_one(scopes: tuple[str, ...]) -> None:
    with pytest.raises(InsufficientScope) as refused:
        verify(FORGE.token(), demand=Demand(scopes=scopes))
    assert refused.value.required == scopes
    with pytest.raises(InsufficientScope):
        verify(FORGE.token()).require(*scopes)


def test_a_token_without_scope_allows_nothing() -> None:
    assert verify(FORGE.token(scope=OMIT)).scopes == ()
    with pytest.raises(InsufficientScope):
        verify(FORGE.token(scope=OMIT), demand=Demand(scopes=("ledger.read",)))


@pytest.mark.parametrize("application", [OMIT, "payroll", "Payments", "payments-eu"])
def test_refuses_an_application_that_has_no_business_here(application: object) -> None:
    for allowed in (("payments",), ()):
        with pytest.raises(ApplicationRejected):
            verify(FORGE.token(application=application), demand=Demand(applications=allowed))


def test_takes_the_applications_that_have() -> None:
    demand = Demand(applications=("payments", "billing"))
    assert verify(FORGE.token(application="billing"), demand=demand).application == "billing"


# --- tokens of others


def test_refuses_a_jwt_svid() -> None:
    """Even one that the issuer's own key signed, for our audience."""
    svid = {"sub": SUBJECT, "aud": [AUDIENCE], "exp": NOW_SECONDS + 90, "iat": NOW_SECONDS}
    assert reason_of(FORGE.sign(FORGE.header(typ="JWT"), svid)) is RejectionReason.TYPE_WRONG
    assert reason_of(FORGE.sign(FORGE.header(typ=OMIT), svid)) is RejectionReason.TYPE_WRONG
    assert malformed(FORGE.sign(payload=svid)) is not None


def test_a_refusal_holds_nothing_of_the_token() -> None:
    token = FORGE.token(sub="x-secret-x", client_id="x-secret-x")
    with pytest.raises(TokenRejected) as refused:
        verify(token)
    error = refused.value
    assert "secret" not in f"{error}{vars(error)}{error.__context__}{error.__cause__}"


def test_lifetimes_of_a_day_and_more_are_the_issuers_to_allow() -> None:
    assert verify(FORGE.token(exp=NOW_SECONDS + int(timedelta(days=400).total_seconds())))
