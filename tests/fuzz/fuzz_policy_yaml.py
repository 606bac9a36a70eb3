"""Invariant: any bytes are a policy or PolicyInvalid with printable faults, soon, and leave nothing in memory.

    python tests/fuzz/fuzz_policy_yaml.py --seconds 60 [--seed N]

Inputs are good policies, changed: bytes flipped, pieces repeated, words and hostile YAML put in, files spliced. Prints
the input that broke the invariant, as a Python literal, and the seed.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from datetime import timedelta
from pathlib import Path

from issuer.core.policy_faults import MAX_FAULTS, PolicyInvalid
from issuer.core.policy_parser import PolicyFile, parse_policy

ROOT = Path(__file__).parents[2]
SOON_SECONDS = 5.0
GROWTH_KIBIBYTES = 100 * 1024
MAX_INPUT = 64 * 1024
MAX_MESSAGE = 600
MAX_CHANGES = 6

# fmt: off
WORDS = [
    b"version: 1\n", b"grants:\n", b"audiences:\n", b"prohibitions:\n", b"risk_tiers:\n", b"min_ttl: 1s\n",
    b"- id: x\n", b"workloads: ", b"'spiffe://td/**'", b"'spiffe://td/*/a'", b"scopes: ", b"when: ", b"<<: ",
    b"&a ", b"*a", b"!!str ", b"!x ", b"? ", b": ", b"- ", b"[", b"]", b"{", b"}", b"|", b">", b"'", b'"',
    b"#", b"%TAG ! x:\n", b"---\n", b"...\n", b"\t", b"\r", b"\r\n", b"\x00", b"\xff", b"\xc3",
    b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\x1b[2J", b"~", b"null", b"9999-12-31",
    b"0001-01-01T00:00:00+23:59", b"99999d", b"1h", b"*", b"**", b"\\ud800", b"\n ",
    b"facts:\n", b"groups:\n", b"conditions:\n", b"environments:\n", b"folders:\n", b"limits:\n", b"when: |\n",
    b"requires: [c]", b"groups: [g]", b"mode: audit", b"legacy: {", b"approval: {", b"facts.risk.score ", b"has(",
    b"request.ttl ", b"now.getHours('UTC') ", b"fields: {a: int}", b"max_age: 1h", b"subject: ticket", b"path: a",
]
# fmt: on


def seeds() -> list[bytes]:
    """Return the good policies to start from."""
    page = (ROOT / "docs" / "POLICY.md").read_bytes()
    examples = [block.split(b"```")[0] for block in page.split(b"```yaml\n")[1:]]
    return [(ROOT / "issuer" / "policy_files" / "starter.yaml").read_bytes(), *examples, b"version: 1\n", b""]


def changed(source: random.Random, corpus: list[bytes]) -> bytes:
    """Return a policy with a few random changes."""
    text = bytearray(source.choice(corpus))
    for _ in range(source.randint(1, MAX_CHANGES)):
        start = source.randint(0, len(text))
        end = min(len(text), start + source.choice([0, 1, 1, 2, 8, 64]))
        pieces = [
            b"",
            source.choice(WORDS),
            source.choice(WORDS) * source.choice([2, 20, 2000]),
            bytes(text[start:end]) * source.choice([2, 2, 200]),
            source.randbytes(source.randint(1, 4)),
            source.choice(corpus),
        ]
        text[start:end] = source.choice(pieces)
    return bytes(text[:MAX_INPUT])


def check(files: list[bytes]) -> bool:
    """Return whether the files are a policy. Whatever else escapes breaks the invariant."""
    began = time.process_time()
    faults = []
    try:
        parse_policy(
            [PolicyFile(f"{'a/' * number}p.yaml", content) for number, content in enumerate(files)],
            legacy_ceiling=timedelta(hours=1),
        )
    except PolicyInvalid as error:
        faults = list(error.faults)
        if not faults:
            raise AssertionError("a refusal without a fault") from error
    assert time.process_time() - began < SOON_SECONDS, "not soon"
    assert len(faults) <= MAX_FAULTS, "more faults than promised"
    assert all(len(fault.message) < MAX_MESSAGE and fault.message.isprintable() for fault in faults), "not printable"
    return not faults


def resident() -> int:
    """Return the most memory that this process has had, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    source, corpus = random.Random(options.seed), seeds()  # noqa: S311 - inputs have to be reproducible
    ends, tried, good, settled = time.monotonic() + options.seconds, 0, 0, 0
    while time.monotonic() < ends:
        files = [changed(source, corpus) for _ in range(source.choice([1, 1, 1, 2]))]
        try:
            good += check(files)
        except BaseException:
            sys.stdout.write(f"seed {options.seed}, input {tried}: {files!r}\n")
            raise
        tried += 1
        settled = settled or (resident() if time.monotonic() > ends - options.seconds / 2 else 0)
    grown = resident() - settled
    sys.stdout.write(f"seed {options.seed}: {tried} inputs, {good} of them good policies, {grown} KiB grown\n")
    return 1 if grown > GROWTH_KIBIBYTES or not good or good == tried else 0


if __name__ == "__main__":
    sys.exit(main())
