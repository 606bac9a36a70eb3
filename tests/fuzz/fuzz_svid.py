"""Invariant: what is presented gives CallerNotVerified, or a Caller by its only URI SAN; soon, and never unsigned.

    python tests/fuzz/fuzz_svid.py --seconds 60 [--seed N]

Inputs are the vectors' chains with random changes to the DER of one certificate; half of them are signed again by the
authority that signed the original, so that the change reaches the rules behind the signature. Prints the input that
broke the invariant, as PEM, and the seed.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import warnings
from base64 import b64decode, encodebytes
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from support.svid_vectors import FixedBundles, Vector, load_vectors
from vectors.x509svid import der
from vectors.x509svid.certificates import ec_key

from issuer.core.errors import CallerNotVerified
from issuer.core.verdicts import CallerVerifier

SOON_SECONDS = 1.0
MAX_CHANGES = 3
SAN_OID = bytes.fromhex("0603551d11")
URI_TAG = b"\x86"
BEGIN, END = b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n"
SIGNERS = {
    "valid_spire": "prod root",
    "valid_other_san_types": "prod root",
    "valid_intermediate": "intermediate",
    "valid_name_constraints_satisfied_intermediate": "intermediate that has satisfied",
}
"""Vectors to start from, and the name of the key that signed their leaf."""


class Attempt(NamedTuple):
    """What is presented, and whether its leaf is signed as it stands."""

    vector: Vector
    leaf: bytes
    chain: bytes | None
    signed: bool


def attempt(source: random.Random, vectors: list[Vector]) -> Attempt:
    """Return a chain with changes."""
    vector = source.choice(vectors)
    leaf, chain = _der(vector.leaf_pem), vector.chain_pem
    if chain and source.random() < 0.3:
        return Attempt(vector, leaf, _pem(changed(source, _der(chain))), signed=False)
    if source.random() < 0.5:
        return Attempt(vector, changed(source, leaf), chain, signed=False)
    tbs, algorithm, _ = der.children(leaf)
    tbs = changed(source, tbs)
    signature = ec_key(SIGNERS[vector.name]).sign(tbs, ec.ECDSA(hashes.SHA256()))
    return Attempt(vector, der.signed(tbs, algorithm, signature), chain, signed=True)


def changed(source: random.Random, content: bytes) -> bytes:
    """Return the DER with a few random changes, most of them with the lengths mended."""
    for _ in range(source.randint(1, MAX_CHANGES)):
        content = _changed_element(source, content) if source.random() < 0.8 else _flipped(source, content)
    return content


def _flipped(source: random.Random, content: bytes) -> bytes:
    place = source.randrange(len(content))
    return content[:place] + source.randbytes(1) + content[place + 1 :]


def _changed_element(source: random.Random, element: bytes) -> bytes:
    try:
        parts = der.children(element) if element[0] & 0x20 else []
    except IndexError:
        parts = []
    if parts and source.random() < 0.8:
        place = source.randrange(len(parts))
        choice = source.random()
        if choice < 0.75:
            parts[place : place + 1] = [_changed_element(source, parts[place])]
        elif choice < 0.85:
            parts[place : place + 1] = [parts[place]] * source.choice([0, 2, 3])
        else:
            source.shuffle(parts)
        return der.encode(element[0], b"".join(parts))
    body = element[2:] or b"\0"
    start = source.randrange(len(body))
    piece = source.choice([b"", b"\0", b"/", b"%61", b"..", source.randbytes(2), body, b"\xff" * 20])
    return der.encode(
        source.choice([element[0]] * 5 + [source.randrange(256)]), body[:start] + piece + body[start + 1 :]
    )


def check(tried: Attempt) -> bool:
    """Return whether there was a Caller. Whatever else escapes breaks the invariant."""
    verifier = CallerVerifier(FixedBundles(dict(tried.vector.bundles)), lambda: tried.vector.allowed)
    began = time.process_time()
    try:
        caller, message = verifier.verify(_pem(tried.leaf), tried.chain, tried.vector.now), ""
    except CallerNotVerified as error:
        caller, message = None, error.message
    assert time.process_time() - began < SOON_SECONDS, "not soon"
    assert message.isprintable(), "not printable"
    if caller is None:
        return False
    unchanged = tried.leaf == _der(tried.vector.leaf_pem)
    assert tried.signed or unchanged, "a caller by a leaf that nobody signed"
    assert uris(tried.leaf) == [str(caller.spiffe_id).encode()], "not the only URI SAN"
    return not unchanged


def uris(leaf: bytes) -> list[bytes]:
    """Return the URI SANs as our own few lines of DER read them."""
    (listed,) = der.children(der.children(der.children(leaf)[0])[-1])
    (names,) = [extension for extension in der.children(listed) if der.children(extension)[0] == SAN_OID]
    value = der.content(der.children(names)[-1])
    return [der.content(name) for name in der.children(value) if name[:1] == URI_TAG]


def _der(pem: bytes) -> bytes:
    return b64decode(pem.removeprefix(BEGIN).removesuffix(END))


def _pem(content: bytes) -> bytes:
    return BEGIN + encodebytes(content) + END


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="Parsed a serial number")  # refused by our own rule
    warnings.filterwarnings("ignore", message="Attribute's length")  # of a subject, which nobody reads
    source = random.Random(options.seed)  # noqa: S311 - inputs have to be reproducible
    vectors = [vector for vector in load_vectors() if vector.name in SIGNERS]
    ends, count, accepted = time.monotonic() + options.seconds, 0, 0
    while time.monotonic() < ends:
        tried = attempt(source, vectors)
        try:
            accepted += check(tried)
        except BaseException:
            sys.stdout.write(f"seed {options.seed}, input {count}:\n{_pem(tried.leaf).decode()}{tried.chain!r}\n")
            raise
        count += 1
    sys.stdout.write(f"seed {options.seed}: {count} inputs, {accepted} of them changed, signed again and accepted\n")
    return 0 if accepted else 1


if __name__ == "__main__":
    sys.exit(main())
