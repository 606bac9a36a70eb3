"""Invariant: any header lines give challenges and no error, in linear time, and rendering what was read is stable.

    python tests/fuzz/fuzz_challenges.py --seconds 60 [--seed N]

Inputs are pieces of the grammar in any order, of good lines with changes, and long runs of one piece. Prints the
lines that broke the invariant and the seed; fails too when memory keeps growing, or when hardly anything was read.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time

from agent_client.challenges import MAX_CHALLENGES, MAX_LINE_CHARACTERS, MAX_LINES, parse_challenges

SOON_SECONDS = 0.25
"""For all lines at their full length, on a busy machine. One pass takes about 20 ms; a quadratic one takes minutes."""

GROWTH_KIBIBYTES = 65_536
PIECES = [
    *("Bearer", "DPoP", "Basic", "Negotiate", "error", "scope", "realm", "a", "A", "!", "~", "0"),
    *(" ", "  ", "\t", ",", ", ", ",,", "=", " = ", "==", '"', '""', "\\", '\\"', "\\\\", "\\\t", "/", "+", ";"),
    *("\0", "\r\n", "\x7f", "\x85", "\xfc", "\u2028", "\udc80", "\U0010ffff"),
    *('error="invalid_token"', 'scope="a b"', "max_age=5", "YII=", 'realm="a, Basic b=c"'),
]
GOOD = [
    'Bearer realm="ledger", error="insufficient_scope", scope="ledger.write"',
    'Negotiate YII=, Bearer error=invalid_token, Basic realm="say \\"hi\\""',
    'Bearer error="insufficient_user_authentication", acr_values="a b", max_age="5"',
]


def line(source: random.Random) -> str:
    """Return one line."""
    kind = source.random()
    if kind < 0.05:
        run = "".join(source.choices(PIECES, k=source.randint(1, 3)))
        return (
            source.choice(PIECES) + run * (source.randint(1, MAX_LINE_CHARACTERS) // len(run)) + source.choice(PIECES)
        )
    if kind < 0.5:
        return "".join(source.choices(PIECES, k=source.randint(0, 30)))
    text = source.choice(GOOD)
    for _ in range(source.randint(0, 3)):
        place = source.randrange(len(text) + 1)
        text = text[:place] + source.choice(["", *PIECES]) + text[place + source.choice([0, 1, 3]) :]
    return text


def check(lines: list[str]) -> int:
    """Return how many challenges were read. Whatever escapes breaks the invariant."""
    began = time.process_time()
    challenges = parse_challenges(lines)
    assert time.process_time() - began < SOON_SECONDS, "not soon"
    assert len(challenges) <= MAX_CHALLENGES, "more than the bound"
    for challenge in challenges:
        text = challenge.render()
        assert text.isascii(), "not ASCII"
        assert text.isprintable(), "not printable"
        if len(text) <= MAX_LINE_CHARACTERS:  # escaping and quoting make it longer than what was read
            assert parse_challenges([text]) == (challenge,), "another challenge than was rendered"
    joined = ", ".join(challenge.render() for challenge in challenges)
    if len(joined) <= MAX_LINE_CHARACTERS:
        assert parse_challenges([joined]) == challenges, "others when they share a line"
    return len(challenges)


def resident() -> int:
    """Return the most memory that this process has had, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    source = random.Random(options.seed)  # noqa: S311 - inputs have to be reproducible
    ends, tried, read, settled = time.monotonic() + options.seconds, 0, 0, 0
    while time.monotonic() < ends:
        lines = [line(source) for _ in range(source.choice([0, 1, 1, 1, 2, 3, MAX_LINES + 1]))]
        try:
            read += check(lines)
        except BaseException:
            sys.stdout.write(f"seed {options.seed}, input {tried}: {lines!r}\n")
            raise
        tried += 1
        settled = settled or (resident() if time.monotonic() > ends - options.seconds / 2 else 0)
    grown = resident() - settled
    sys.stdout.write(f"seed {options.seed}: {tried} headers, {read} challenges read, {grown} KiB grown\n")
    return 1 if grown > GROWTH_KIBIBYTES or read < tried / 10 else 0


if __name__ == "__main__":
    sys.exit(main())
