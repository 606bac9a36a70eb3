import re
from string import ascii_letters, digits

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issuer.core.errors import CallerNotVerified, Reason
from issuer.core.spiffe_id import MAX_ID_BYTES, MAX_TRUST_DOMAIN_BYTES, SpiffeId, SpiffeIdError, TrustDomain

SETTLER = "spiffe://prod.example/ns/payments/sa/settler"
HOST_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.-_"
PATH_CHARACTERS = ascii_letters + digits + ".-_"

hosts = st.text(HOST_CHARACTERS, min_size=1, max_size=40)
segments = st.text(PATH_CHARACTERS, min_size=1, max_size=20).filter(lambda segment: segment not in {".", ".."})
paths = st.lists(segments, min_size=1, max_size=8).map(lambda parts: "".join(f"/{part}" for part in parts))
ids = st.builds(lambda host, path: f"spiffe://{host}{path}", hosts, paths)
pieces = st.lists(
    st.sampled_from(
        [
            "spiffe://",
            "SPIFFE://",
            "a",
            "Z",
            "prod.example",
            "/",
            "//",
            ".",
            "..",
            ":",
            "@",
            "?",
            "#",
            "%2f",
            "\n",
            "\0",
            "é",
            "",
        ]
    ),
    max_size=8,
).map("".join)


def canonical(text: str) -> bool:
    """The grammar of SPIFFE-ID section 2, read character by character."""
    if len(text.encode()) > 2048 or text[:9] != "spiffe://" or "/" not in text[9:]:
        return False
    host, *parts = text[9:].split("/")
    return (
        0 < len(host) <= 255
        and set(host) <= set(HOST_CHARACTERS)
        and all(part and part not in {".", ".."} and set(part) <= set(PATH_CHARACTERS) for part in parts)
    )


def accepted(text: str) -> bool:
    try:
        SpiffeId.parse(text)
    except SpiffeIdError:
        return False
    return True


def reason_of(text: str) -> Reason:
    with pytest.raises(SpiffeIdError) as refused:
        SpiffeId.parse(text)
    return refused.value.reason


def test_parts_of_an_id() -> None:
    parsed = SpiffeId.parse(SETTLER)
    assert parsed == SpiffeId(TrustDomain("prod.example"), "/ns/payments/sa/settler")
    assert parsed.segments == ("ns", "payments", "sa", "settler")
    assert (str(parsed), str(parsed.trust_domain)) == (SETTLER, "prod.example")


def test_a_refusal_is_one_of_the_caller() -> None:
    assert issubclass(SpiffeIdError, CallerNotVerified)


@pytest.mark.parametrize(
    "text",
    [
        "spiffe://a/b",
        "spiffe://192.0.2.7/a",
        "spiffe://a_b-c.d/A.B-C_9",
        "spiffe://prod.example/...",
        "spiffe://prod.example/.a",
        "spiffe://prod.example/a..",
        "spiffe://-/-",
        "spiffe://./a",
    ],
)
def test_accepts_what_the_grammar_allows(text: str) -> None:
    assert str(SpiffeId.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "prod.example/a",
        "http://prod.example/a",
        "SPIFFE://prod.example/a",
        "Spiffe://prod.example/a",
        "spiffe:/prod.example/a",
        "spiffe:prod.example/a",
        "spiffe:///a",
        "spiffe://",
        " spiffe://prod.example/a",
        "spiffe://prod.example/a ",
        "spiffe://PROD.example/a",
        "spiffe://prod.example:443/a",
        "spiffe://prod.example:/a",
        "spiffe://user@prod.example/a",
        "spiffe://user:secret@prod.example/a",
        "spiffe://[::1]/a",
        "spiffe://pro%64.example/a",
        "spiffe://pröd.example/a",
        "spiffe://prod.example?/a",
        "spiffe://prod.example/a?",
        "spiffe://prod.example/a?b=c",
        "spiffe://prod.example#/a",
        "spiffe://prod.example/a#",
        "spiffe://prod.example/%61",
        "spiffe://prod.example/a%2Fb",
        "spiffe://prod.example//a",
        "spiffe://prod.example/a//b",
        "spiffe://prod.example/a/",
        "spiffe://prod.example/a//",
        "spiffe://prod.example//",
        "spiffe://prod.example/./a",
        "spiffe://prod.example/a/.",
        "spiffe://prod.example/../a",
        "spiffe://prod.example/a/..",
        "spiffe://prod.example/a\n",
        "spiffe://prod.example\n/a",
        "spiffe://prod.example/a\0",
        "spiffe://prod.example/a b",
        "spiffe://prod.example/a\\b",
        "spiffe://prod.example/a:b",
        "spiffe://prod.example/~a",
        "spiffe://prod.example/a+b",
        "spiffe://prod.example/ä",
        "spiffe://prod.example/\uff41",
        "spiffe://prod.example/\u0661",
        "spiffe://\u0661/a",
    ],
)
def test_refuses_what_is_not_canonical(text: str) -> None:
    assert reason_of(text) is Reason.SPIFFE_ID_NOT_CANONICAL


@pytest.mark.parametrize("text", ["spiffe://prod.example", "spiffe://prod.example/"])
def test_refuses_a_trust_domain_for_a_workload(text: str) -> None:
    assert reason_of(text) is Reason.SPIFFE_ID_WITHOUT_PATH


def test_the_longest_id_has_2048_bytes() -> None:
    longest = f"{SETTLER}/".ljust(MAX_ID_BYTES, "a")
    assert len(longest) == 2048
    assert str(SpiffeId.parse(longest)) == longest
    assert reason_of(longest + "a") is Reason.SPIFFE_ID_TOO_LONG


def test_an_id_that_is_too_long_is_told_so_whatever_else_is_wrong_with_it() -> None:
    assert reason_of("x" * 2049) is Reason.SPIFFE_ID_TOO_LONG


def test_the_longest_trust_domain_has_255_bytes() -> None:
    longest = "a" * MAX_TRUST_DOMAIN_BYTES
    assert len(longest) == 255
    assert TrustDomain.parse(longest).name == longest
    assert reason_of(f"spiffe://{longest}a/b") is Reason.SPIFFE_ID_NOT_CANONICAL


@pytest.mark.parametrize("name", ["", "A", "a/b", "a:1", "spiffe://a", "a\n", "é", "a b"])
def test_refuses_a_trust_domain_that_is_not_canonical(name: str) -> None:
    with pytest.raises(SpiffeIdError) as refused:
        TrustDomain.parse(name)
    assert refused.value.reason is Reason.SPIFFE_ID_NOT_CANONICAL


def test_a_message_does_not_repeat_what_the_caller_sent() -> None:
    with pytest.raises(SpiffeIdError) as refused:
        SpiffeId.parse("spiffe://prod.example/a\nforged log line")
    assert "forged" not in refused.value.message


@given(ids)
def test_accepts_every_canonical_id(text: str) -> None:
    assert str(SpiffeId.parse(text)) == text


@given(
    st.one_of(st.text(max_size=60), pieces, st.builds(str.__add__, ids, pieces), st.builds(str.__add__, pieces, ids))
)
def test_accepts_exactly_what_the_grammar_does(text: str) -> None:
    assert accepted(text) is canonical(text)


@given(
    st.one_of(
        ids, pieces, st.from_regex(re.compile(r"spiffe://[^/]{0,5}(/.{0,3}){0,4}", re.IGNORECASE), fullmatch=True)
    )
)
def test_never_accepts_what_it_would_spell_otherwise(text: str) -> None:
    if accepted(text):
        parsed = SpiffeId.parse(text)
        assert str(parsed) == text
        assert parsed == SpiffeId(
            TrustDomain.parse(parsed.trust_domain.name), "".join(f"/{s}" for s in parsed.segments)
        )


@given(ids, ids)
def test_two_ids_are_equal_exactly_when_their_bytes_are(one: str, other: str) -> None:
    assert (SpiffeId.parse(one) == SpiffeId.parse(other)) is (one == other)
