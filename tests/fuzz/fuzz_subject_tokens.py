"""Invariant: any text is refused as NotTaken or ExchangeRefused, or is a JWT-SVID that its trust domain signed; soon.

    python tests/fuzz/fuzz_subject_tokens.py --seconds 60 [--seed N]

Inputs are good JWT-SVIDs, changed before they are signed, by the key of the trust domain or another, and in their text
afterwards. What is taken is for this issuer alone, alive, without a chain of actors, and with a ``may_act`` that was
understood. Prints the input that broke the invariant, and the seed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.forging import ISSUER, Forge, as_json, encoded, fixed_forge
from support.minting import NOW_SECONDS

from issuer.core.exchange import ExchangeRefused
from issuer.core.foreign_keys import ForeignKey, foreign_keys
from issuer.core.foreign_subject import subject_of_jwt_svid
from issuer.core.jwt_svid import NotTaken, verified_jwt_svid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from issuer.core.exchange import Subject
    from issuer.core.spiffe_id import TrustDomain

SOON_SECONDS = 0.5
GOOD, EVIL = fixed_forge(1), fixed_forge(2)
SUBJECT = "spiffe://prod.example/a"
# fmt: off
NAMES = ["sub", "aud", "exp", "iat", "nbf", "act", "may_act", "alg", "kid", "typ", "crit", "jwk", "iss", ""]
VALUES: list[Any] = [
    None, True, 0, -1, 1.5, 10**30, "", "x", "none", "ES256", "RS256", "HS256", "at+jwt", "JWT", "JOSE", ISSUER,
    [ISSUER], [ISSUER, "x"], ISSUER + "/", GOOD.key_id, EVIL.key_id, [], {}, SUBJECT, "spiffe://evil.example/a",
    {"sub": SUBJECT}, {"sub": SUBJECT, "iss": ISSUER}, {"sub": SUBJECT, "x": 1}, "spiffe://prod.example/../a",
    NOW_SECONDS, NOW_SECONDS + 5, 253402300800, "\u0000", "é", "a" * 3000, [[[[]]]],
]
PIECES = [
    b"", b" ", b"\0", b"{", b"}", b"[" * 300, b",", b'"', b"\\", b"\\ud800", b"NaN", b"1e400", b"9" * 5000, b"\xff",
    b"\xef\xbb\xbf", b'"sub":"x",', b'"act":{},',
]
TEXTS = ["", "=", ".", "..", " ", "\n", "+", "/", "-", "_", "A", "AA", "é", "\ud800", "\0", "A" * 20_000]
# fmt: on
KEYS = {
    "prod.example": foreign_keys(as_json(GOOD.jwks), frozenset({"sig"})),
    "evil.example": foreign_keys(as_json(EVIL.jwks), frozenset({"sig"})),
}


def authorities(trust_domain: TrustDomain) -> Mapping[str, ForeignKey] | None:
    return KEYS.get(trust_domain.name)


def attempt(source: random.Random) -> tuple[str, str]:
    """Return a text with a few changes, and what the key of prod.example signed of it; empty for nothing."""
    forge = GOOD if source.random() < 0.8 else Forge(EVIL.key, kid=source.choice([GOOD.key_id, EVIL.key_id]))
    header: dict[str, Any] = forge.header(typ="JWT")
    payload: dict[str, Any] = {"sub": SUBJECT, "aud": [ISSUER], "exp": NOW_SECONDS + 60, "iat": NOW_SECONDS}
    for members in (header, payload):
        while source.random() < 0.3:
            members[source.choice(NAMES)] = source.choice(VALUES)
    signed = ".".join(encoded(changed(source, as_json(members))) for members in (header, payload))
    text = f"{signed}.{encoded(forge.signature(signed.encode()))}"
    while source.random() < 0.3:
        place = source.randint(0, len(text))
        text = text[:place] + source.choice(TEXTS) + text[place + source.choice([0, 0, 1, 7]) :]
    return text, signed if forge is GOOD else ""


def changed(source: random.Random, data: bytes) -> bytes:
    """Return the JSON with a few changes that its writer could not make."""
    while source.random() < 0.2:
        place = source.randint(0, len(data))
        data = data[:place] + source.choice(PIECES) + data[place + source.choice([0, 0, 1, 5]) :]
    return data


def check(text: str, signed: str) -> bool:
    """Return whether it was taken. Whatever else escapes breaks the invariant."""
    began = time.process_time()
    refusal: Exception | None = None
    subject: Subject | None = None
    try:
        subject = subject_of_jwt_svid(verified_jwt_svid(text, authorities, ISSUER, NOW_SECONDS), ISSUER)
    except (NotTaken, ExchangeRefused) as refused:
        refusal = refused
    assert time.process_time() - began < SOON_SECONDS, "not soon"
    if subject is None:
        assert str(refusal).isascii(), "not printable"
        assert str(refusal).isprintable(), "not printable"
        return False
    if subject.name.startswith("spiffe://prod.example/"):
        assert text.rpartition(".")[0] == signed, "a text that the trust domain did not sign"
    claims = json.loads(urlsafe_b64decode(text.split(".")[1] + "=="))
    assert subject.name == claims["sub"], "another subject"
    assert claims["aud"] in (ISSUER, [ISSUER]), "for others too"
    assert claims["exp"] > NOW_SECONDS, "not alive"
    assert "act" not in claims, "a chain that others vouch for"
    assert ("may_act" in claims) is (subject.may_act is not None), "a may_act that was passed over"
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    source = random.Random(options.seed)  # noqa: S311 - inputs have to be reproducible
    ends, count, taken = time.monotonic() + options.seconds, 0, 0
    while time.monotonic() < ends:
        text, signed = attempt(source)
        try:
            taken += check(text, signed)
        except BaseException:
            told = f"seed {options.seed}, input {count}: {text!r}\n".encode("ascii", "replace").decode()
            sys.stdout.write(told)
            raise
        count += 1
    sys.stdout.write(f"seed {options.seed}: {count} inputs, {taken} of them taken\n")
    return 0 if taken else 1


if __name__ == "__main__":
    sys.exit(main())
