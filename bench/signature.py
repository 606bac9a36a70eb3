"""The floor: an ES256 signature with nothing around it."""

from __future__ import annotations

import time

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

_SIGNATURES = 4000


def microseconds_per_signature() -> float:
    """Return the CPU time of one signature over 500 bytes, on one thread."""
    key, algorithm, message = ec.generate_private_key(ec.SECP256R1()), ec.ECDSA(SHA256()), b"x" * 500
    for _ in range(_SIGNATURES // 10):
        key.sign(message, algorithm)
    started = time.process_time()
    for _ in range(_SIGNATURES):
        key.sign(message, algorithm)
    return (time.process_time() - started) / _SIGNATURES * 1e6
