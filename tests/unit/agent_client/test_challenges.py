from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_client.challenges import (
    MAX_CHALLENGES,
    MAX_LINE_CHARACTERS,
    MAX_LINES,
    MAX_PARAMETERS,
    Challenge,
    parse_challenges,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

TOKEN_CHARACTERS = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"


def read(*lines: str) -> list[tuple[str, dict[str, str]]]:
    return [(challenge.scheme, dict(challenge.parameters)) for challenge in parse_challenges(lines)]


@pytest.mark.parametrize(
    ("line", "parameters"),
    [
        ("Bearer", {}),
        ("Bearer ", {}),
        ("  Bearer  ,", {}),
        ('Bearer realm="ledger"', {"realm": "ledger"}),
        ("Bearer error=invalid_token", {"error": "invalid_token"}),
        ('Bearer  error = "a" ,\tscope\t=\t"b c" ', {"error": "a", "scope": "b c"}),
        ('Bearer ,, error="a",,, ,scope=b,', {"error": "a", "scope": "b"}),
        ('Bearer ERROR="a"', {"error": "a"}),
        (r'Bearer realm="say \"hi\" \\ \a"', {"realm": r'say "hi" \ a'}),
        ('Bearer realm="a, Basic realm=b"', {"realm": "a, Basic realm=b"}),
        ('Bearer realm=""', {"realm": ""}),
        ("Bearer realm='a'", {"realm": "'a'"}),
        ('Bearer realm="\u00fcber \u202e \udc80 \\\u00fc"', {"realm": "?ber ? ? ?"}),
        ('Bearer realm="a\tb"', {"realm": "a?b"}),
    ],
)
def test_reads_one_challenge(line: str, parameters: Mapping[str, str]) -> None:
    assert read(line) == [("Bearer", parameters)]


@pytest.mark.parametrize(
    "line",
    [
        'Bearer error="a',
        'Bearer error="a\\"',
        'Bearer error="a"b',
        'Bearer error="a" scope="b"',
        "Bearer error=a b",
        'Bearer error="a\r\nSet-Cookie: b"',
        'Bearer error="a\0"',
        'Bearer error="a\x7f"',
        'Bearer error="a\\\n"',
        "Bearer\terror=a",
        "Bearer a/b, error=a",
        'Bearer error="a", =b',
        'Bearer error="a", scope="b',
        'Bearer error="a", scope ="b',
        'Bearer error="a", Basic one two',
        'Bearer error="a"; scope="b"',
        'B\u00e4rer error="a"',
        'error="a"',
        "=",
        '"',
        "\0",
        "",
        " , ,\t,",
        "Bearer " + "=" * 50,
    ],
)
def test_leaves_out_what_it_cannot_read(line: str) -> None:
    assert read(line) == []


def test_keeps_what_was_whole_before_a_fault_and_nothing_after_it() -> None:
    assert read('Basic realm="a", Bearer error="b, Negotiate x, Digest realm="c"', "Other") == [
        ("Basic", {"realm": "a"}),
        ("Other", {}),
    ]


def test_a_text_inside_of_a_string_is_no_challenge() -> None:
    """What a caller can put into an error text must not read as a challenge, be its string broken or not."""
    for text in (
        r"\", Bearer error=\"invalid_token",
        ", Bearer error=invalid_token",
        "\x01, Bearer error=invalid_token",
    ):
        assert [scheme for scheme, _ in read(f'Basic realm="{text}"')] in (["Basic"], [])


def test_reads_several_challenges_of_one_line_and_of_several() -> None:
    lines = ['Negotiate, Bearer error="a", scope="b c", DPoP algs="ES256", Basic realm=x', "Digest qop=auth", "Bearer"]
    assert read(*lines) == [
        ("Negotiate", {}),
        ("Bearer", {"error": "a", "scope": "b c"}),
        ("DPoP", {"algs": "ES256"}),
        ("Basic", {"realm": "x"}),
        ("Digest", {"qop": "auth"}),
        ("Bearer", {}),
    ]


def test_reads_a_token68() -> None:
    challenges = parse_challenges(["Negotiate YII+/x-._~==, Basic abc=, Bearer error=a, NTLM TlRM"])
    assert [(challenge.scheme, challenge.token68) for challenge in challenges] == [
        ("Negotiate", "YII+/x-._~=="),
        ("Basic", "abc="),
        ("Bearer", None),
        ("NTLM", "TlRM"),
    ]


def test_a_name_without_a_value_is_a_token68_as_the_grammar_says() -> None:
    (challenge,) = parse_challenges(["Bearer error="])
    assert challenge == Challenge("Bearer", token68="error=")


def test_a_parameter_behind_a_token68_is_a_fault() -> None:
    assert read("Basic, Negotiate abc=, error=a") == [("Basic", {})]


def test_a_challenge_does_not_go_on_in_the_next_line() -> None:
    assert read("Bearer", 'error="invalid_token"') == [("Bearer", {})]


def test_a_challenge_that_names_a_parameter_twice_is_left_out() -> None:
    assert read('Bearer scope="a", error="b", SCOPE="c", Basic realm="d"') == [("Basic", {"realm": "d"})]


def test_reads_as_many_parameters_as_the_bound_says() -> None:
    names = [f"p{number}=v" for number in range(MAX_PARAMETERS)]
    ((_, parameters),) = read(f"Bearer {','.join(names)}")
    assert len(parameters) == MAX_PARAMETERS
    assert read(f"Bearer {','.join([*names, 'one=more'])}, Basic") == [("Basic", {})]


def test_reads_as_many_challenges_and_lines_as_the_bounds_say() -> None:
    assert len(read(", ".join(["Basic"] * (MAX_CHALLENGES + 1)))) == MAX_CHALLENGES
    assert read(*[""] * (MAX_LINES - 1), "Basic", "Bearer") == [("Basic", {})]


def test_reads_no_line_that_is_too_long() -> None:
    longest = "Bearer".ljust(MAX_LINE_CHARACTERS)
    assert read(longest) == [("Bearer", {})]
    assert read(longest + " ", "Basic") == [("Basic", {})]


def test_refuses_one_string_in_place_of_lines() -> None:
    with pytest.raises(TypeError, match=r"\[value\]"):
        parse_challenges("Bearer")


def test_renders_every_parameter_quoted() -> None:
    challenge = Challenge("Bearer", {"error": "invalid_token", "error_description": r'a "quoted" \ text'})
    assert challenge.render() == r'Bearer error="invalid_token", error_description="a \"quoted\" \\ text"'
    assert Challenge("Bearer").render() == "Bearer"
    assert Challenge("Negotiate", token68="YII=").render() == "Negotiate YII="


def test_a_rendered_value_cannot_add_a_header_or_reach_a_terminal() -> None:
    hostile = 'a\r\nSet-Cookie: b\0\x1b[2J\u2028", Basic realm="c'
    line = Challenge("Bearer", {"error_description": hostile}).render()
    assert line.isascii()
    assert line.isprintable()
    assert [scheme for scheme, _ in read(line)] == ["Bearer"]


@pytest.mark.parametrize(
    ("scheme", "parameters", "token68"),
    [
        ("", {}, None),
        ("Bearer x", {}, None),
        ("Bearer\n", {}, None),
        ("Bearer", {"": "a"}, None),
        ("Bearer", {"a b": "a"}, None),
        ("Bearer", {'a="': "a"}, None),
        ("Bearer", {"Error": "a"}, None),
        ("Bearer", {"error": "a"}, "YII="),
        ("Negotiate", {}, "a b"),
        ("Negotiate", {}, ""),
    ],
)
def test_there_is_no_challenge_that_breaks_the_grammar(
    scheme: str, parameters: Mapping[str, str], token68: str | None
) -> None:
    with pytest.raises(ValueError, match=r"RFC 9110|lower case"):
        Challenge(scheme, parameters, token68)


def test_a_challenge_does_not_change() -> None:
    parameters = {"error": "a"}
    challenge = Challenge("Bearer", parameters)
    parameters["error"] = "b"
    assert challenge.parameters == {"error": "a"}
    with pytest.raises(TypeError, match="item assignment"):
        challenge.parameters["error"] = "c"  # type: ignore[index]


def test_the_case_of_a_scheme_does_not_count() -> None:
    assert Challenge("bEARER").is_scheme("Bearer")
    assert not Challenge("Bearerx").is_scheme("Bearer")


words = st.text(TOKEN_CHARACTERS, min_size=1, max_size=12)


@given(st.lists(st.tuples(words, st.dictionaries(words, st.text(max_size=40), max_size=5)), max_size=5))
def test_what_was_rendered_is_read_again_in_one_line_and_in_several(parts: list[tuple[str, dict[str, str]]]) -> None:
    challenges = tuple(Challenge(scheme, parameters) for scheme, parameters in parts)
    lines = [challenge.render() for challenge in challenges]
    assert parse_challenges(lines) == challenges
    assert parse_challenges([", ".join(lines)]) == challenges
