"""Invariant: any text is a condition or a ConditionError, soon; and one whose need is missing is UNKNOWN.

    python tests/fuzz/fuzz_conditions.py --seconds 60 [--seed N]

Inputs are conditions, changed: tokens swapped, repeated, put in and taken out, and soups of tokens. Each one that
compiles is evaluated with nothing known, with everything, and with one value missing at a time: a value whose absence
changes nothing must not have been a need, and a need that is missing must leave the condition UNKNOWN. Its parts, which
explanations show, compile too.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from datetime import UTC, datetime, timedelta

from issuer.core.condition import ConditionCompiler, Truth
from issuer.core.condition_parts import conjuncts_of, parts_of
from issuer.core.condition_text import ConditionError
from issuer.core.facts import FactType, FieldType, SubjectKind
from issuer.core.policy_faults import Position

SOON_SECONDS = 2.0
GROWTH_KIBIBYTES = 150 * 1024
COMPILED_BEFORE_A_FRESH_ENGINE = 2_000
HERE = Position("p.yaml", 1, 1)
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
FIELDS = {"score": FieldType.INT, "level": FieldType.STRING, "ok": FieldType.BOOL, "tags": FieldType.STRINGS}
FACTS = {"risk": FactType("risk", SubjectKind.CALLER, FIELDS, timedelta(hours=1), None, HERE)}
ALWAYS = {
    "caller.spiffe_id": "spiffe://td/a",
    "caller.trust_domain": "td",
    "caller.path": "/a",
    "caller.environments": ["production"],
    "caller.svid_expires": NOW,
    "now": NOW,
    "request.audience": "https://ledger.example",
    "request.scopes": ["read"],
    "request.grant_type": "client_credentials",
}
OPTIONAL = {
    "request.application": "x",
    "request.ttl": timedelta(minutes=1),
    "request.intent.operation": "settle",
    "request.intent.ticket": "T-1",
    "facts.risk.score": 81,
    "facts.risk.level": "high",
    "facts.risk.ok": True,
    "facts.risk.tags": ["a"],
}
SEEDS = [
    "facts.risk.score >= 80",
    "has(facts.risk.score) && facts.risk.score < 80 || !has(facts.risk.ok)",
    "facts.risk.tags.all(tag, tag.startsWith('a')) && facts.risk.ok",
    "request.ttl < duration('5m') ? request.intent.operation == 'settle' : false",
    "now.getHours('UTC') >= 6 && caller.path.matches('^/a') && 'read' in request.scopes",
    'facts.risk.level == r\'\\\' || facts.risk.level != """x""" // why\n && true',
]
# fmt: off
TOKENS = [
    "&&", "||", "!", "(", ")", "[", "]", "{", "}", ".", ",", "?", ":", "==", "!=", "<", ">=", "in", "+", "-", "*", "/",
    "%", "true", "false", "null", "1", "0", "'x'", '"', "'", "'''", "r'\\'", "b'x'", "//", "\n", "\\", "`", "has(",
    "has(facts.risk.score)", "is.", "facts", "facts.risk", "facts.risk.score", "request.application", "caller.path",
    "now", ".all(t, true)", ".exists(facts, true)", "matches(", "getHours(", "duration('1s')", "size(", "\x00", "é",
    "dyn(", "type(", "string(", "int(", "?.", "[?", "optional.none()", "timestamp(", "0x1", "1u", "1e9", "_", "__x",
]
# fmt: on


def changed(source: random.Random) -> str:
    """Return a condition with a few random changes, or a soup."""
    if source.random() < 0.2:
        return source.choice(["", " "]).join(source.choices(TOKENS, k=source.randint(1, 30)))
    text = source.choice(SEEDS)
    for _ in range(source.randint(1, 5)):
        start = source.randint(0, len(text))
        end = min(len(text), start + source.choice([0, 0, 1, 4, 16]))
        piece = source.choice(
            ["", source.choice(TOKENS), source.choice(TOKENS) * source.choice([2, 40]), text[start:end] * 2]
        )
        text = text[:start] + piece + text[end:]
    return text[:8192]


def check(engine: ConditionCompiler, text: str) -> bool:
    """Return whether the text is a condition. Whatever else escapes breaks the invariant."""
    began = time.process_time()
    refused: ConditionError | None = None
    try:
        condition = engine.compile(text, None, HERE)
    except ConditionError as error:
        refused = error
    finally:
        assert time.process_time() - began < SOON_SECONDS, "not soon"
    if refused is not None:
        assert min(refused.line, refused.column) >= 1, "a place before the text"
        return False
    known = {**ALWAYS, **OPTIONAL}
    whole = condition.evaluate(engine.context(known))
    for path in OPTIONAL:
        without = condition.evaluate(engine.context({name: known[name] for name in known if name != path}))
        if path in condition.needs:
            assert without is Truth.UNKNOWN, f"{path} is needed, is missing, and it came out {without}"
        elif path not in condition.mentions:
            assert without is whole, f"{path} is not mentioned, and its absence changed {whole} to {without}"
    for part in {*parts_of(text), *conjuncts_of(text)}:
        engine.compile_part(part)  # a part of a condition means something by itself
    assert time.process_time() - began < 2 * SOON_SECONDS, "its parts are not found soon"
    return True


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(2**32)
    source = random.Random(seed)  # noqa: S311 - inputs have to be reproducible
    engine = ConditionCompiler(FACTS)
    tried = good = settled = 0
    end = time.monotonic() + arguments.seconds
    while time.monotonic() < end:
        text = changed(source)
        try:
            good += check(engine, text)
        except BaseException:
            sys.stderr.write(f"seed {seed}, input {text!r}\n")
            raise
        tried += 1
        if tried % COMPILED_BEFORE_A_FRESH_ENGINE == 0:
            engine = ConditionCompiler(FACTS)  # an engine lives as long as its policy, and remembers what it compiled
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            settled = settled or (peak if tried >= 5 * COMPILED_BEFORE_A_FRESH_ENGINE else 0)
            assert not settled or peak - settled < GROWTH_KIBIBYTES, "memory grows"
    sys.stdout.write(f"{tried} conditions, {good} of them good, seed {seed}\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
