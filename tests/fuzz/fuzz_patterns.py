"""Invariant: any text is a pattern or a PatternError with its place, soon; and a pattern speaks of whole segments only.

    python tests/fuzz/fuzz_patterns.py --seconds 60 [--seed N]

Inputs are patterns, changed, and soups of their pieces. Each one that parses is asked about SPIFFE IDs that are near to
it, alone and through the index, and has to answer as a slow comparison, segment by segment, does. Prints the input that
broke the invariant, as a Python literal, and the seed.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from dataclasses import dataclass

from issuer.core.index import RuleIndex
from issuer.core.patterns import PatternError, WorkloadPattern, parse_pattern
from issuer.core.spiffe_id import MAX_ID_BYTES, SCHEME, SpiffeId, SpiffeIdError

SOON_SECONDS = 0.5
GROWTH_KIBIBYTES = 50 * 1024
NEAR_IDS = 6
AUDIENCE = "https://ledger.example"
SEEDS = [
    "spiffe://td/a/b",
    "spiffe://td/a/*",
    "spiffe://td/*/b/*",
    "spiffe://td/**",
    "spiffe://td/*/**",
    "spiffe://prod.example/ns/payments/sa/settler",
    "spiffe://prod.example/ns/*/sa/settler",
    f"spiffe://td/{'a' * 2000}/**",
    f"spiffe://td{'/*' * 900}",
    f"spiffe://{'t' * 255}/a/*",
]
# fmt: off
PIECES = [
    "/", "//", "/*", "/**", "*", "**", "***", "/.", "/..", "/a", "a", "b", "A", "td", "td.x", "ns", "%2a", "%2F", "?",
    "#", ":", "@", "\\", "spiffe://", "SPIFFE://", "[a-z]", "(a|b)", ".*", "a+", "$", "^", "\n", "\r\n", "\x00",
    "\x1b[2J", "é", "\u0430", "\uff0f", "\uff0a", "\u202e", "\ud800", "\U0001f600", "-", "_", "~", "{a,b}", " ", "\t",
]
# fmt: on
SEGMENTS = ["a", "b", "c", "ns", "sa", "payments", "settler", "x", "**x", "*"]


@dataclass(frozen=True, eq=False)
class Rule:
    """What the index files."""

    workloads: tuple[WorkloadPattern, ...]
    indexed_audiences: tuple[str, ...] = (AUDIENCE,)


def changed(source: random.Random) -> str:
    """Return a pattern with a few random changes, or a soup."""
    if source.random() < 0.2:
        return SCHEME * source.randint(0, 1) + "".join(source.choices(PIECES, k=source.randint(0, 12)))
    text = source.choice(SEEDS)
    for _ in range(source.randint(0, 4)):
        start = source.randint(0, len(text))
        end = min(len(text), start + source.choice([0, 0, 1, 2, 8]))
        pieces = [
            "",
            source.choice(PIECES),
            source.choice(PIECES) * source.choice([2, 20, 20_000]),
            text[start:end] * 2,
        ]
        text = text[:start] + source.choice(pieces) + text[end:]
    return text


def near(source: random.Random, pattern: WorkloadPattern) -> SpiffeId | None:
    """Return an ID that the pattern matches, or that one or two changes keep from it; ``None`` when it is no ID."""
    trust_domain, *segments = pattern.text.removeprefix(SCHEME).split("/")
    path = [source.choice(SEGMENTS[:8]) if segment in {"*", "**"} else segment for segment in segments]
    path += source.choices(SEGMENTS[:8], k=source.choice([0, 0, 0, 1, 3]) if segments[-1] == "**" else 0)
    for _ in range(source.choice([0, 0, 1, 2])):
        place = source.randrange(len(path) + 1)
        path[place : place + source.choice([0, 1])] = source.choice([[], [source.choice(SEGMENTS)], path[place:][:2]])
    name = source.choice([trust_domain] * 8 + [f"{trust_domain}.x", trust_domain[:-1], "td"])
    try:
        return SpiffeId.parse("/".join([f"{SCHEME}{name}", *path]))
    except SpiffeIdError:
        return None


def matches_slowly(pattern: str, spiffe_id: SpiffeId) -> bool:
    """Compare segment by segment, with no thought of speed."""
    trust_domain, *wanted = pattern.removeprefix(SCHEME).split("/")
    if trust_domain != spiffe_id.trust_domain.name:
        return False
    there = list(spiffe_id.segments)
    while wanted and wanted != ["**"]:
        if not there or wanted[0] not in ("*", there[0]):
            return False
        wanted, there = wanted[1:], there[1:]
    return bool(there) if wanted else not there


def check(source: random.Random, text: str) -> int:
    """Return how many IDs a good pattern was found to match. Whatever else escapes breaks the invariant."""
    began = time.process_time()
    refused: PatternError | None = None
    try:
        pattern = parse_pattern(text)
    except PatternError as error:
        refused = error
    finally:
        assert time.process_time() - began < SOON_SECONDS, "not soon"
    if refused is not None:
        assert 0 <= refused.offset <= len(text), "a place outside of the text"
        assert refused.message, "a refusal without a reason"
        return 0
    assert pattern.text == text, "another pattern than was written"
    assert len(text) <= MAX_ID_BYTES + text.count("*"), "longer than any identity"
    rule = Rule((pattern,))
    index = RuleIndex([rule])
    matched = 0
    for spiffe_id in (near(source, pattern) for _ in range(NEAR_IDS)):
        if spiffe_id is not None:
            expected = matches_slowly(text, spiffe_id)
            assert pattern.matches(spiffe_id) is expected, f"{spiffe_id}: not {expected}"
            assert (index.matching(spiffe_id, AUDIENCE) == (rule,)) is expected, f"{spiffe_id}: the index disagrees"
            assert not index.matching(spiffe_id, "https://other.example"), "an audience that the rule does not name"
            matched += expected
    assert time.process_time() - began < SOON_SECONDS, "not soon"
    return matched


def resident() -> int:
    """Return the most memory that this process has had, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    source = random.Random(options.seed)  # noqa: S311 - inputs have to be reproducible
    ends, tried, matched, settled = time.monotonic() + options.seconds, 0, 0, 0
    while time.monotonic() < ends:
        text = changed(source)
        try:
            matched += check(source, text)
        except BaseException:
            sys.stdout.write(f"seed {options.seed}, input {tried}: {text!r}\n")
            raise
        tried += 1
        settled = settled or (resident() if time.monotonic() > ends - options.seconds / 2 else 0)
    grown = resident() - settled
    sys.stdout.write(f"seed {options.seed}: {tried} patterns, {matched} identities matched, {grown} KiB grown\n")
    return 1 if grown > GROWTH_KIBIBYTES or not matched else 0


if __name__ == "__main__":
    sys.exit(main())
