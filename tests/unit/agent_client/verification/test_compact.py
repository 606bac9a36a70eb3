"""The text of a token: one spelling, one header, nothing else."""

from __future__ import annotations

import re

import pytest
from support.forging import OMIT, Forge, as_json, encoded, fixed_forge

from agent_client.token_checks import MAX_TOKEN_BYTES
from agent_client.verification.compact import Header, parse_compact, read_header
from agent_client.verification.errors import RejectionReason, TokenRejected

FORGE = fixed_forge()
GOOD = FORGE.token()


def reason_of(token: str) -> RejectionReason:
    with pytest.raises(TokenRejected) as refused:
        parse_compact(token, {})
    return refused.value.reason


def with_header(**changes: object) -> str:
    return FORGE.sign(FORGE.header(**changes))


def test_takes_a_good_token_apart() -> None:
    token = parse_compact(GOOD, {})
    assert token.header == Header("ES256", FORGE.key_id)
    assert token.signing_input.decode() == GOOD.rpartition(".")[0]
    assert token.encoded_header.decode() == GOOD.partition(".")[0]
    assert token.payload.startswith(b'{"iss":')
    assert len(token.signature) == 64


def test_does_not_print_the_token() -> None:
    assert repr(parse_compact(GOOD, {})) == "UnverifiedToken()"


def test_uses_a_header_that_is_known() -> None:
    known = Header("ES256", "known")
    assert parse_compact(GOOD, {GOOD.partition(".")[0].encode(): known}).header is known


HEADER, PAYLOAD, SIGNATURE = GOOD.split(".")


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        f"{HEADER}.{PAYLOAD}",
        f"{HEADER}.{PAYLOAD}.",  # alg none's usual form, too
        f"{HEADER}..{SIGNATURE}",  # detached (RFC 7515 appendix F)
        f".{PAYLOAD}.{SIGNATURE}",
        f"{GOOD}.",
        f"{GOOD}.{SIGNATURE}",
        f"{GOOD}.a.b",  # five parts: a JWE
        f".{GOOD}",
        f"{GOOD}~",  # SD-JWT
        f"{GOOD}=",
        f"{HEADER}.{PAYLOAD}==.{SIGNATURE}",
        f"{HEADER}=.{PAYLOAD}.{SIGNATURE}",
        f"{GOOD},{GOOD}",
        f"{GOOD}\x00",
        f"{GOOD}\u200b",
        f"\ufeff{GOOD}",
        GOOD.replace(".", "\uff0e"),  # a full-width dot
        GOOD.replace(".", "。"),
        f"{GOOD}\ud800",
        f"Bearer {GOOD}",
        as_json({"payload": PAYLOAD, "protected": HEADER, "signature": SIGNATURE}).decode(),  # RFC 7515 section 7.2
    ],
)
def test_refuses_every_other_form(token: str) -> None:
    assert reason_of(token) is RejectionReason.MALFORMED


@pytest.mark.parametrize("space", [" ", "\t", "\n", "\r\n", "\x0b", "\xa0", "%20"])
def test_refuses_white_space_wherever_it_is(space: str) -> None:
    places = [0, 1, len(HEADER), len(HEADER) + 1, len(HEADER) + 5, len(GOOD) - len(SIGNATURE), len(GOOD) - 1, len(GOOD)]
    for place in places:
        assert reason_of(GOOD[:place] + space + GOOD[place:]) is RejectionReason.MALFORMED, place


@pytest.mark.parametrize("part", [0, 1, 2])
def test_refuses_spare_bits(part: int) -> None:
    """Several texts of one token would get past a list of tokens that were seen."""
    parts = GOOD.split(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    if len(parts[part]) % 4 == 0:
        parts[part] = encoded(b'{"a":1 }' if part else as_json(FORGE.header()) + b" ")  # a length that has some
    parts[part] = parts[part][:-1] + alphabet[alphabet.index(parts[part][-1]) + 1]
    assert reason_of(".".join(parts)) is RejectionReason.MALFORMED


def test_refuses_what_is_larger_than_the_bound_and_takes_what_is_not() -> None:
    assert MAX_TOKEN_BYTES == 16_384
    room = MAX_TOKEN_BYTES - len(HEADER) - 2
    whole = f"{HEADER}.{'A' * (room - 86)}.{'A' * 86}"
    assert len(whole) == MAX_TOKEN_BYTES
    assert parse_compact(whole, {}).header.key_id == FORGE.key_id
    assert reason_of(whole + "A") is RejectionReason.TOO_LARGE
    assert reason_of("é" * 10_000_000) is RejectionReason.TOO_LARGE
    assert reason_of("." * MAX_TOKEN_BYTES) is RejectionReason.MALFORMED


@pytest.mark.parametrize("value", [["exp"], [], ["b64"], None, "typ"])
def test_refuses_crit(value: object) -> None:
    assert reason_of(with_header(crit=value)) is RejectionReason.CRITICAL_EXTENSION
    assert reason_of(with_header(crit=value, b64=False)) is RejectionReason.CRITICAL_EXTENSION


@pytest.mark.parametrize("member", ["jku", "x5u", "jwk", "x5c", "x5t", "x5t#S256"])
def test_refuses_a_key_in_the_header(member: str) -> None:
    assert reason_of(with_header(**{member: "https://evil.example/keys"})) is RejectionReason.KEY_IN_HEADER


@pytest.mark.parametrize("member", ["b64", "zip", "enc", "cty", "iss", "nonce", "p2c", "", "KID", "alg "])
def test_refuses_any_other_member(member: str) -> None:
    assert reason_of(with_header(**{member: "x"})) is RejectionReason.HEADER_MEMBER_UNKNOWN


@pytest.mark.parametrize(
    "typ",
    [
        *(OMIT, None, "", 1, ["at+jwt"], "JWT", "jwt", "application/jwt", "wit+jwt", "wpt+jwt", "statuslist+jwt"),
        *("secevent+jwt", "dpop+jwt", "txntoken+jwt", "oauth-id-jag+jwt", "token-introspection+jwt", "JOSE", "at-jwt"),
        *(
            "at+jwt ",
            " at+jwt",
            "at+jwt;v=1",
            "application/at+jwt;v=1",
            "text/at+jwt",
            "at+jwt\n",
            "at+\uff4awt",
            "xat+jwt",
        ),
    ],
)
def test_refuses_what_is_no_access_token(typ: object) -> None:
    assert reason_of(with_header(typ=typ)) is RejectionReason.TYPE_WRONG


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "At+Jwt", "application/at+jwt", "Application/AT+jwt"])
def test_takes_the_type_in_every_spelling_of_rfc_9068(typ: str) -> None:
    assert parse_compact(with_header(typ=typ), {}).header.algorithm == "ES256"


@pytest.mark.parametrize(
    "kid", [OMIT, None, "", 1, ["k"], "k" * 257, "a b", "k\n", "schlüssel", "../../etc/passwd\x00"]
)
def test_refuses_a_key_id_that_cannot_be_one(kid: object) -> None:
    assert reason_of(with_header(kid=kid)) is RejectionReason.MALFORMED


@pytest.mark.parametrize("kid", ["k", "k" * 256, "'OR/**/1=1--", "../../x"])
def test_takes_any_printable_key_id_for_it_is_only_looked_up(kid: str) -> None:
    assert parse_compact(with_header(kid=kid), {}).header.key_id == kid


@pytest.mark.parametrize("algorithm", [OMIT, None, 1, ["ES256"], {"ES256": 1}])
def test_refuses_an_algorithm_that_is_no_text(algorithm: object) -> None:
    assert reason_of(with_header(alg=algorithm)) is RejectionReason.MALFORMED


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"none","alg":"ES256","kid":"k","typ":"at+jwt"}',
        b'{"alg":"ES256","kid":"k","kid":"l","typ":"at+jwt"}',
        b'{"alg":"ES256","kid":"k","typ":"JWT","typ":"at+jwt"}',
        b'{"alg":"ES256","kid":"k","typ":"at+jwt"}{}',
        b'{"alg":"ES256","kid":"k","typ":"at+jwt"}\x00',
        b'\xef\xbb\xbf{"alg":"ES256","kid":"k","typ":"at+jwt"}',
        '{"alg":"ES256","kid":"k","typ":"at+jwt"}'.encode("utf-16"),
        b'["alg","ES256"]',
        b'{"alg":"ES256","kid":"k","typ":' + b"[" * 8000,
        b"null",
        b"{",
    ],
)
def test_refuses_a_header_that_is_no_strict_object(header: bytes) -> None:
    with pytest.raises(TokenRejected) as refused:
        read_header(encoded(header).encode())
    assert refused.value.reason is RejectionReason.MALFORMED


def test_an_error_holds_nothing_of_the_token() -> None:
    token = Forge().sign(b'{"secret-in-header":1}', b"secret-in-payload")
    for broken in (token, token + "é", token + "=", token[:-1] + "!"):
        with pytest.raises(TokenRejected) as refused:
            parse_compact(broken, {})
        errors: list[BaseException | None] = [refused.value, refused.value.__cause__, refused.value.__context__]
        told = repr([(str(error), vars(error)) for error in errors if error is not None])
        assert not re.search(r"secret|eyJ", told)
        assert errors[1:] == [None, None]
