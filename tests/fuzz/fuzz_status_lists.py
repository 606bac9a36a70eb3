"""Invariant: any text gives ListFault, or exactly the entries that the issuer signed for this address; soon, and small.

    python tests/fuzz/fuzz_status_lists.py --seconds 60 [--seed N]

Inputs are good lists, changed: in header or claims before they are signed, by the issuer's key or another, in the
compressed bytes, and in their text afterwards. Prints the input that broke the invariant, as a Python literal, and the
seed.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import time
import zlib
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.forging import Forge, as_json, encoded, fixed_forge

from agent_client.verification.algorithms import ALGORITHMS
from agent_client.verification.key_set import read_key_set
from agent_client.verification.status_token import MAX_LIST_BYTES, ListFault, ListRules, read_header_of, read_list

if TYPE_CHECKING:
    from agent_client.verification.status_token import ReadList

SOON_SECONDS = 0.5
GROWTH_KIBIBYTES = 50 * 1024
SETTLED_AFTER = 2_000
GOOD, EVIL = fixed_forge(1), fixed_forge(2)
KEYS = read_key_set(GOOD.jwks).keys
ISSUER = "https://issuer.example"
URI = f"{ISSUER}/status-lists/1"
NOW = 1_000_000
BOMB = zlib.compress(bytes(20 * 1024 * 1024), 9)
MEMBERS = ["iss", "sub", "iat", "exp", "ttl", "status_list", "alg", "kid", "typ", "crit", "x"]
VALUES: list[Any] = [
    *(None, True, 0, 1, -1, 1.5, 10**30, "", "x", "at+jwt", "statuslist+jwt", "JWT", "none", "RS256", [], {}),
    *(URI, URI + "1", ISSUER, NOW, NOW + 1, NOW + 6, NOW - 5, {"bits": 1}, {"bits": 2, "lst": "eNo76fITAAPfAgc"}),
]
TEXTS = ["", "=", ".", "..", " ", "\n", "+", "-", "A", "é", "\0", "A" * 5000]


class Attempt(NamedTuple):
    """A text, and the part of it that the issuer's key signed, if it did."""

    text: str
    signed: str | None


def attempt(source: random.Random) -> Attempt:
    """Return a list with a few changes."""
    forge = GOOD if source.random() < 0.8 else Forge(EVIL.key, kid=GOOD.key_id)
    data = zlib.compress(source.randbytes(source.choice([1, 2, 100, 16_384])), source.choice([0, 1, 9]))
    if source.random() < 0.05:
        data = BOMB
    while source.random() < 0.3:
        place = source.randint(0, len(data))
        data = data[:place] + source.randbytes(source.choice([0, 1, 3])) + data[place + source.choice([0, 1, 7]) :]
    listed = {"bits": source.choice([1, 1, 1, 2, 4, 8, 3]), "lst": encoded(data)}
    header = forge.header(typ="statuslist+jwt")
    payload: dict[str, Any] = {"iss": ISSUER, "sub": URI, "iat": NOW, "exp": NOW + 60, "ttl": 5, "status_list": listed}
    for members in (header, payload):
        while source.random() < 0.2:
            members[source.choice(MEMBERS)] = source.choice(VALUES)
    signed = f"{encoded(as_json(header))}.{encoded(as_json(payload))}"
    text = f"{signed}.{encoded(forge.signature(signed.encode()))}"
    while source.random() < 0.2:
        place = source.randint(0, len(text))
        text = text[:place] + source.choice(TEXTS) + text[place + source.choice([0, 0, 1, 7]) :]
    return Attempt(text, signed if forge is GOOD else None)


def check(tried: Attempt) -> bool:
    """Return whether it was taken. Whatever else escapes breaks the invariant."""
    began = time.process_time()
    error: ListFault | None = None
    taken: ReadList | None = None
    try:
        unverified = read_header_of(tried.text, ALGORITHMS)
        key = KEYS.get(unverified.header.key_id)
        taken = read_list(unverified, key, URI, ListRules(ISSUER, ALGORITHMS, 5.0), NOW) if key else None
    except ListFault as fault:
        error = fault
    assert time.process_time() - began < SOON_SECONDS, "not soon"
    assert error is None or str(error).isascii(), "not printable"
    if taken is None:
        return False
    signed = tried.text.rpartition(".")[0]
    assert tried.signed == signed, "a text that the issuer did not sign"
    claims = json.loads(urlsafe_b64decode(signed.partition(".")[2] + "=="))
    assert (claims["sub"], claims.get("iss", ISSUER)) == (URI, ISSUER), "another list"
    assert claims["iat"] - 5 <= NOW < claims["exp"] + 5, "not alive"
    entries = zlib.decompress(urlsafe_b64decode(claims["status_list"]["lst"] + "=="))
    assert 0 < len(entries) <= MAX_LIST_BYTES, "not small"
    bits = claims["status_list"]["bits"]
    per_byte = 8 // bits
    for index in {0, len(entries) * per_byte // 2, len(entries) * per_byte - 1}:
        wanted = entries[index // per_byte] >> index % per_byte * bits & (1 << bits) - 1
        assert taken.status(index) == wanted, "another status"
    assert taken.status(len(entries) * per_byte) is None, "an entry that is not there"
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    source = random.Random(options.seed)  # noqa: S311 - inputs have to be reproducible
    ends, count, taken, settled = time.monotonic() + options.seconds, 0, 0, 0
    while time.monotonic() < ends:
        tried = attempt(source)
        try:
            taken += check(tried)
        except BaseException:
            sys.stdout.write(f"seed {options.seed}, input {count}: {tried!r}\n".encode("ascii", "replace").decode())
            raise
        count += 1
        if count % SETTLED_AFTER == 0:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            settled = settled or peak
            assert peak - settled < GROWTH_KIBIBYTES, "memory grows"
    sys.stdout.write(f"seed {options.seed}: {count} inputs, {taken} of them taken\n")
    return 0 if taken else 1


if __name__ == "__main__":
    sys.exit(main())
