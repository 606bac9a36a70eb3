"""Invariant: any text gives TokenRejected, or exactly the claims that the issuer signed; soon, and telling nothing.

    python tests/fuzz/fuzz_tokens.py --seconds 60 [--seed N]

Inputs are good tokens, changed: in header or claims before they are signed, by the issuer's key or another, and in
their text afterwards. Half of them keep the signed text, so that changes reach the rules behind the signature. What is
taken must be a text that the issuer's key signed, in its one spelling but for the two forms of an ECDSA signature, of
our audience and alive. Prints the input that broke the invariant, as a Python literal, and the seed.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import time
from base64 import urlsafe_b64decode
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.forging import ISSUER, Forge, as_json, claims, encoded, fixed_forge
from support.minting import AUDIENCE, NOW_SECONDS

from agent_client.verification.errors import TokenRejected
from agent_client.verification.key_set import read_key_set
from agent_client.verification.strict_json import strict_object
from agent_client.verification.token_rules import Demand, Expectations, read_token, verified_token

if TYPE_CHECKING:
    from agent_client.verification.verified_token import VerifiedToken

SOON_SECONDS = 0.5
GROWTH_KIBIBYTES = 50 * 1024
SETTLED_AFTER = 5_000
GOOD, EVIL = fixed_forge(1), fixed_forge(2)
KEYS = read_key_set(GOOD.jwks).keys
EXPECTED = Expectations(ISSUER, AUDIENCE, frozenset({"ES256", "RS256"}), leeway=5)
NOW = datetime.fromtimestamp(NOW_SECONDS, UTC)
# fmt: off
MEMBERS = [
    "iss", "sub", "client_id", "aud", "exp", "iat", "nbf", "jti", "scope", "application", "cnf", "act", "dev", "alg",
    "kid", "typ", "crit", "jku", "jwk", "x5u", "b64", "", "x",
]
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 1.5, 2**63, 10**30, 1e308, "", "x", "none", "ES256", "RS256", "HS256", "at+jwt",
    "AT+JWT", "JWT", AUDIENCE, AUDIENCE + "/", AUDIENCE[:-1], [AUDIENCE], [AUDIENCE, "x"], ISSUER, GOOD.key_id, [], {},
    {"x5t#S256": "A" * 43}, {"jkt": "A" * 43}, {"sub": "x"}, "spiffe://dev.test/a", "spiffe://prod.example/../a",
    NOW_SECONDS, NOW_SECONDS + 1, NOW_SECONDS - 1, NOW_SECONDS + 95, 253402300799, 253402300800, "a" * 3000, [[[[]]]],
    "\u0000", "\ud83d\ude00", "é", "a b", "a  b",
]
PIECES = [
    b"", b" ", b"\n", b"\0", b"{", b"}", b"[", b"]" * 3, b"[" * 300, b",", b":", b'"', b"\\", b"\\u0061", b"\\ud800",
    b"NaN", b"Infinity", b"-", b"1e400", b"9" * 30, b"9" * 5000, b"\xff", b"\xc0\xaf", b"\xef\xbb\xbf", b'"aud":"x",',
    b'"typ":"JWT",',
]
TEXTS = ["", "=", "==", ".", "..", " ", "\n", "\t", "+", "/", "-", "_", "A", "AA", "é", "\ud800", "~", "\0", "A" * 5000]
# fmt: on


class Attempt(NamedTuple):
    """A text, and the parts of it that the issuer's key signed, if it did."""

    text: str
    signed: str | None


def attempt(source: random.Random) -> Attempt:
    """Return a token with a few changes."""
    forge = GOOD if source.random() < 0.8 else Forge(EVIL.key, kid=GOOD.key_id)
    header, payload = forge.header(), claims()
    for members in (header, payload):
        while source.random() < 0.3:
            members[source.choice(MEMBERS)] = source.choice(VALUES)
    parts = [changed(source, as_json(members)) for members in (header, payload)]
    signed = ".".join(encoded(part) for part in parts)
    text = f"{signed}.{encoded(forge.signature(signed.encode()))}"
    while source.random() < 0.3:
        place = source.randint(0, len(text))
        text = text[:place] + source.choice(TEXTS) + text[place + source.choice([0, 0, 1, 7]) :]
    return Attempt(text, signed if forge is GOOD else None)


def changed(source: random.Random, data: bytes) -> bytes:
    """Return the JSON with a few changes that its writer could not make."""
    while source.random() < 0.2:
        place = source.randint(0, len(data))
        data = data[:place] + source.choice(PIECES) + data[place + source.choice([0, 0, 1, 5]) :]
    return data


def check(tried: Attempt) -> bool:
    """Return whether it was taken. Whatever else escapes breaks the invariant."""
    began = time.process_time()
    error: TokenRejected | None = None
    taken: VerifiedToken | None = None
    try:
        unverified = read_token(tried.text, EXPECTED.algorithms, {})
        key = KEYS.get(unverified.header.key_id)
        taken = verified_token(unverified, key, EXPECTED, Demand(), NOW) if key else None
    except TokenRejected as refused:
        error = refused
    assert time.process_time() - began < SOON_SECONDS, "not soon"
    if error is not None:
        assert str(error).isascii(), "not printable"
        assert str(error).isprintable(), "not printable"
        assert error.__context__ is None, "an error that may hold the token"
    if taken is None:
        return False
    signed, _, signature = tried.text.rpartition(".")
    assert tried.signed == signed, "a text that the issuer did not sign"
    assert len(signature) == 86, "a signature in another spelling"
    data = urlsafe_b64decode(signed.partition(".")[2] + "==")
    assert dict(taken.claims) == json.loads(data) == strict_object(data), "other claims than were signed"
    assert (taken.issuer, taken.audience, taken.claims["aud"]) == (ISSUER, AUDIENCE, AUDIENCE), "another's token"
    assert taken.claims["iat"] - 5 <= NOW_SECONDS < taken.claims["exp"] + 5, "not alive"
    assert "cnf" not in taken.claims, "bound, and without its certificate"
    assert not taken.development, "of a development authority"
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
