from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issuer.core.condition import ConditionCompiler
from issuer.core.condition_parts import MAX_PARTS, parts_of
from issuer.core.condition_text import ConditionError
from issuer.core.policy_faults import Position


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a.b", []),
        ("!a && -b + 1 > 2", ["!a", "a", "-b + 1 > 2", "-b + 1", "-b", "b"]),
        ("(a || b) && c", ["(a || b)", "a || b", "a", "b", "c"]),
        ("a ? b : c % d * 2 / e", ["a", "b", "c % d * 2 / e", "c", "d", "e"]),
        ("a * -b - -c", ["a * -b", "a", "-b", "b", "-c", "c"]),
        ("!!a", ["a"]),
        ("x in [a, b,]", ["x", "[a, b,]", "a", "b"]),
        ("x == []", ["x"]),
        ("(a).f(b && c)", ["a", "(a)", "b && c", "b", "c"]),
        ("a.b.startsWith(c.d)", ["a.b", "c.d"]),
        ("a.b[c].d == 1", ["a.b[c].d", "a.b", "c"]),
        ("a.f().g(b) == 1", ["a.f().g(b)", "a", "a.f()", "b"]),
        ("size(a) > int(b)", ["size(a)", "a", "int(b)", "b"]),
        ("has(request.ttl) && a.b", ["has(request.ttl)", "a.b"]),
        ("l.all(i, i > 1) == ('a' == \"b && c\")", ["l.all(i, i > 1)", "l"]),
        ("{'a': b}['a'] == c", ["{'a': b}['a']", "{'a': b}", "c"]),
        ("f() == a", ["f()", "a"]),
        ("'?' == a", ["a"]),
    ],
)
def test_the_parts_of_a_condition(text: str, parts: list[str]) -> None:
    assert list(parts_of(text)) == [text, *parts]


def test_the_parts_are_bounded() -> None:
    assert len(parts_of(" || ".join(f"a{number}" for number in range(200)))) == MAX_PARTS


@pytest.mark.parametrize("text", ["!" * 4000 + "a", "-" * 4000 + "1", "(" * 32 + "a" + ")" * 32, "a" + ".f()" * 800])
def test_the_deepest_text_that_can_be_read_is_read(text: str) -> None:
    assert parts_of(text)[:1] in {(text,), ()}


PATHS = st.sampled_from(["request.scopes.size()", "caller.path.size()", "size(request.audience)", "1", "-2", "3 - 1"])
NUMBERS = st.recursive(
    PATHS,
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*/%"), inner)
        | st.builds("(1 < {} ? {} : {})".format, inner, inner, inner)
        | st.builds("-({})".format, inner)
        | st.builds("[{}, {}][0]".format, inner, inner)
    ),
    max_leaves=8,
)
TRUTHS = st.recursive(
    st.builds("{} {} {}".format, NUMBERS, st.sampled_from(["==", "<", ">=", "!="]), NUMBERS),
    lambda inner: (
        st.builds("({}) {} {}".format, inner, st.sampled_from(["&&", "||"]), inner)
        | st.builds("!({})".format, inner)
        | st.builds("request.scopes.exists(s, s == 'x') && {}".format, inner)
    ),
    max_leaves=4,
)
COMPILER = ConditionCompiler({})
SOURCE = Position("policy.yaml", 1, 1)


@given(TRUTHS)
def test_every_part_of_what_compiles_compiles(text: str) -> None:
    try:
        COMPILER.compile(text, None, SOURCE)
    except ConditionError:
        return  # too deep, or too long
    for part in parts_of(text):
        COMPILER.compile_part(part)
