# ruff: noqa: E501 - one line for each fault reads best
from __future__ import annotations

from datetime import timedelta

import pytest
from cel_expr_python import cel
from support.policies import NOW

from issuer.core.condition import ConditionCompiler, Truth, truth_of
from issuer.core.condition_text import MAX_BYTES, ConditionError, read_condition
from issuer.core.facts import FactType, FieldType, SubjectKind
from issuer.core.policy_faults import Position

HERE = Position("p.yaml", 1, 1)
RISK = FactType(
    "risk",
    SubjectKind.CALLER,
    {
        "score": FieldType.INT,
        "tags": FieldType.STRINGS,
        "level": FieldType.STRING,
        "since": FieldType.TIMESTAMP,
        "decay": FieldType.DURATION,
        "ratio": FieldType.DOUBLE,
        "seen": FieldType.BOOL,
    },
    timedelta(minutes=5),
    None,
    HERE,
)
ALWAYS = {
    "caller.spiffe_id": "spiffe://td/a",
    "caller.trust_domain": "td",
    "caller.path": "/a",
    "caller.environments": ["production"],
    "caller.svid_expires": NOW + timedelta(hours=1),
    "now": NOW,
    "request.audience": "https://ledger.example",
    "request.scopes": ["read", "write"],
    "request.grant_type": "client_credentials",
}
KNOWN = {
    "facts.risk.score": 81,
    "facts.risk.tags": ["a", "ab"],
    "facts.risk.level": "high",
    "facts.risk.since": NOW - timedelta(minutes=1),
    "facts.risk.decay": timedelta(seconds=30),
    "facts.risk.ratio": 0.5,
    "facts.risk.seen": True,
    "request.ttl": timedelta(minutes=1),
    "request.intent.operation": "settle",
}


@pytest.fixture(scope="module")
def engine() -> ConditionCompiler:
    return ConditionCompiler({"risk": RISK})


def evaluated(engine: ConditionCompiler, text: str, **more: object) -> Truth:
    return engine.compile(text, None, HERE).evaluate(engine.context({**ALWAYS, **more}))


@pytest.mark.parametrize(
    "text",
    [
        "facts.risk.score >= 80",
        "facts.risk.tags.all(tag, tag.startsWith('a'))",
        "facts.risk.level.matches('^h') && matches(facts.risk.level, 'g')",
        "now - facts.risk.since < duration('2m') && facts.risk.decay == duration('30s')",
        "facts.risk.ratio < 0.6 && facts.risk.seen",
        "request.ttl <= duration('5m') && request.intent.operation == 'settle'",
        "now.getHours('UTC') == 12 && now.getHours() == 12 && now.getHours('Europe/Berlin') == 14",
        "'production' in caller.environments && 'read' in request.scopes",
        "has(facts.risk.score) && !has(request.application) // a comment: facts.nothing.here",
        "caller.path == '/a' ? caller.trust_domain == \"td\" : false",
        "request.scopes.size() == 2 && [1, 2][0] == 1 && {'a': 1}['a'] == 1",
    ],
)
def test_what_is_known_is_weighed(engine: ConditionCompiler, text: str) -> None:
    assert evaluated(engine, text, **KNOWN) is Truth.TRUE
    assert evaluated(engine, f"!({text.partition(' //')[0]})", **KNOWN) is Truth.FALSE


@pytest.mark.parametrize(
    "text",
    [
        "facts.risk.score >= 80",
        "facts.risk.score < 80",
        "facts.risk.score >= 80 || true",
        "facts.risk.score >= 80 && false",
        "!(facts.risk.score >= 80)",
        "true ? true : facts.risk.score > 1",
        ".facts.risk.score >= 80 || true",
        "facts . risk . score >= 80 || true",
        "facts.// a comment\nrisk.score >= 80 || true",
        "facts.risk.tags.exists(tag, true) || true",
        "[1].exists(one, facts.risk.score > one) || true",
        "request.ttl < duration('5m') || true",
        "request.application == 'x' || true",
        "has(facts.risk.level) || facts.risk.score > 1 || true",
    ],
)
def test_what_is_missing_is_never_a_default(engine: ConditionCompiler, text: str) -> None:
    """The attack: an operator that absorbs the error of an unbound variable, or a default that reads as a value."""
    condition = engine.compile(text, None, HERE)
    assert condition.needs
    assert condition.evaluate(engine.context(ALWAYS)) is Truth.UNKNOWN
    assert condition.missing(engine.context(ALWAYS)) == condition.needs


def test_a_guarded_value_may_be_missing(engine: ConditionCompiler) -> None:
    text = "has( facts.risk.score ) && facts.risk.score >= 80"
    condition = engine.compile(text, "calm", HERE)
    assert condition.needs == frozenset()
    assert condition.mentions == {"facts.risk.score"}
    assert condition.fact_types == {"risk"}
    assert evaluated(engine, text) is Truth.FALSE
    assert evaluated(engine, text, **KNOWN) is Truth.TRUE
    assert evaluated(engine, "!has(facts.risk.score) || facts.risk.score >= 80") is Truth.TRUE
    # The engine's own error, once the guard of another path lets it come to that.
    assert evaluated(engine, "has(facts.risk.score) || facts.risk.score > 1") is Truth.UNKNOWN


@pytest.mark.parametrize(
    "text", ["1 / 0 == 1", "request.scopes[9] == 'x'", "timestamp('nonsense') < now", "int('x') == 1"]
)
def test_an_error_of_the_engine_is_unknown(engine: ConditionCompiler, text: str) -> None:
    assert evaluated(engine, text) is Truth.UNKNOWN


def test_only_a_bool_that_is_one_counts() -> None:
    class Result:
        def __init__(self, type_: object, value: object) -> None:
            self._type, self._value = type_, value

        def type(self) -> object:
            return self._type

        def value(self) -> object:
            return self._value

    came_out = [(cel.Type.BOOL, True), (cel.Type.BOOL, False), (cel.Type.BOOL, 1), (cel.Type.BOOL, "no such key")]
    truths = [truth_of(Result(type_, value)) for type_, value in [*came_out, (cel.Type.STRING, True)]]
    assert truths == [Truth.TRUE, Truth.FALSE, Truth.UNKNOWN, Truth.UNKNOWN, Truth.UNKNOWN]
    assert truth_of(None) is Truth.UNKNOWN


def test_whatever_the_engine_raises_is_unknown(engine: ConditionCompiler) -> None:
    class Broken:
        def eval(self, _: object) -> None:
            raise RuntimeError("engine")

    condition = engine.compile("true", None, HERE)
    object.__setattr__(condition, "_expression", Broken())
    assert condition.evaluate(engine.context(ALWAYS)) is Truth.UNKNOWN


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("", 1, 1, "a condition is empty; leave it out, or write one"),
        ("  // nothing", 1, 1, "a condition is empty; leave it out, or write one"),
        ("x" * (MAX_BYTES + 1), 1, 1, "a condition has at most 4096 bytes: name its parts under 'conditions'"),
        ("1", 1, 1, "a condition is of type bool, this one of type INT"),
        ("facts.risk.score", 1, 1, "a condition is of type bool, this one of type INT"),
        ("true &&\n  facts.risk.scor > 1", 2, 3, "undeclared reference to 'facts.risk.scor'"),
        ("facts.posture.ok", 1, 1, "undeclared reference to 'facts.posture.ok'"),
        ("has(facts.posture.ok)", 1, 5, "undeclared reference to 'facts.posture.ok'"),
        ("is.facts.risk.score", 1, 1, "undeclared reference to 'is'"),
        ("facts['risk']", 1, 1, "undeclared reference to 'facts'"),
        ("now > 3", 1, 5, "found no matching overload for '_>_' applied to '(google.protobuf.Timestamp, int)'"),
        (
            "true &&",
            1,
            8,
            "Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}",
        ),
        ("a ` b", 1, 3, "'`' is not part of CEL, or begins a text that does not end"),
        ("'open", 1, 1, '"\'" is not part of CEL, or begins a text that does not end'),
        ("(((", 1, 3, "')' is missing at the end"),
        ("(])", 1, 2, "']' closes nothing"),
        (")", 1, 1, "')' closes nothing"),
        ("(" * 33 + ")" * 33, 1, 33, "brackets are nested more than 32 deep"),
        ("[1].all(a, [1].exists(b, a == b))", 1, 22, "a comprehension cannot stand in another one"),
        ("request.scopes.all(facts, facts == 'a')", 1, 20, "'facts' cannot name the variable of a comprehension"),
        ("facts.risk.level.matches(facts.risk.level)", 1, 18, "matches() takes its pattern as a literal text"),
        ("matches(facts.risk.level, 'a' + 'b')", 1, 1, "matches() takes its pattern as a literal text"),
        ("matches(facts.risk.level, request.audience)", 1, 1, "matches() takes its pattern as a literal text"),
        ("has(facts.risk.score > 1)", 1, 1, "has() takes one path of facts or request, as in has(facts.risk.score)"),
        ("has()", 1, 1, "has() takes one path of facts or request, as in has(facts.risk.score)"),
        ("now.getHours(request.audience) == 1", 1, 14, "getHours() takes its time zone as a literal text"),
        ("now.getHours('Nowhere/X') == 1", 1, 14, "there is no time zone 'Nowhere/X'"),
    ],
)
def test_a_fault_has_its_place(engine: ConditionCompiler, text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(ConditionError) as caught:
        engine.compile(text, None, HERE)
    assert (caught.value.line, caught.value.column, caught.value.message) == (line, column, message)


def test_a_complaint_without_a_place_is_told_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        def compile(self, _: str) -> None:
            raise RuntimeError("no picture")

    silent = ConditionCompiler({})
    monkeypatch.setattr(silent, "_env", Silent())
    with pytest.raises(ConditionError, match="cannot be compiled"):
        silent.compile("true", None, HERE)


def test_equal_texts_are_compiled_once(engine: ConditionCompiler) -> None:
    first, second = (engine.compile("caller.path == '/b'", name, HERE) for name in ("one", "two"))
    assert first._expression is second._expression
    assert (first.name, second.name) == ("one", "two")


def test_the_engine_sees_the_same_columns() -> None:
    text = 'has(facts.risk.score)   && \'has(x)\' == """has(y)""" && a.has(b)'
    read = read_condition(text)
    assert len(read.engine_text) == len(text)
    assert read.engine_text.startswith("is.facts.risk.score ")
    assert read.engine_text[21:] == text[21:]


def test_strings_of_every_kind_are_skipped() -> None:
    text = r"""'facts.risk.score' != "facts.risk.score \" '" && r'\' != b'x'.size() == 1 || '''a'b''' == "c" """
    assert read_condition(r"'facts.risk.score' == r'\'").mentions == frozenset()
    assert read_condition(text).mentions == frozenset()


def test_a_method_of_a_fact_is_not_a_part_of_its_path() -> None:
    assert read_condition("facts.risk.tags.size() > 0").mentions == {"facts.risk.tags"}
    assert read_condition("a.facts.risk == 1").mentions == frozenset()
    assert read_condition("(a).facts.risk == 1").mentions == {"facts.risk"}


def test_a_part_of_a_condition_can_be_asked_for_its_value(engine: ConditionCompiler) -> None:
    part = engine.compile_part("facts.risk.score + 1")
    context = engine.context({**ALWAYS, **KNOWN})
    assert context.value_of(part) == 82
    assert context.value_of(engine.compile_part("1 / 0")) is None
