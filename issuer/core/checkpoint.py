"""A signed statement of how far a ledger's chain had come: what is missing or changed below it was there once.

It is a JWS (RFC 7515) with a ``typ`` of its own and neither ``sub`` nor ``aud``: no verifier takes it for a token.
Whoever can write to the ledger's database, but cannot sign, can forge nothing up to the last statement that is kept
elsewhere.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePublicKey,
    EllipticCurvePublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from issuer.core.base64url import base64url_decoded
from issuer.core.hash_chain import WriterHead
from issuer.core.token import signing_input

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECKPOINT_TYPE: Final = "ledger-checkpoint+jwt"
MAX_CHECKPOINT_BYTES: Final = 4_096
_SIGNATURE_BYTES: Final = 64
_HASH_BYTES: Final = 32


class CheckpointInvalid(Exception):
    """A statement does not count; the message says why."""


class LedgerCheckpoint(NamedTuple):
    """What a statement says.

    Attributes:
        issuer: The issuer's URL.
        store: The ledger's id.
        head: The last entry of the chain of one writer.
        time: When it was made, microseconds since 1970 UTC.
    """

    issuer: str
    store: str
    head: WriterHead
    time: int


def checkpoint_to_sign(checkpoint: LedgerCheckpoint, algorithm: str, key_id: str) -> bytes:
    """Return what is signed.

    Args:
        checkpoint: What to state.
        algorithm: The signer's JWS ``alg``.
        key_id: The signer's ``kid``.
    """
    head = checkpoint.head
    payload = {
        "iss": checkpoint.issuer,
        "ledger": checkpoint.store,
        "writer": head.writer,
        "position": head.position,
        "hash": head.hash.hex(),
        "time": checkpoint.time,
    }
    return signing_input(algorithm, key_id, json.dumps(payload, separators=(",", ":")).encode(), CHECKPOINT_TYPE)


def verified_checkpoint(statement: str, keys: Mapping[str, EllipticCurvePublicKey]) -> LedgerCheckpoint:
    """Return what a statement says, after verifying it.

    Not checked: that it is recent, and that its issuer and ledger are the expected ones.

    Args:
        statement: A JWS in compact serialisation.
        keys: The P-256 keys that may have signed, by ``kid``.

    Raises:
        CheckpointInvalid: It is not a statement, or not by one of the keys.
    """
    try:
        header_text, payload_text, signature_text = _segments(statement)
        header, signature = json.loads(base64url_decoded(header_text)), base64url_decoded(signature_text)
        key = _key_of(header, keys)
        _verify(key, f"{header_text}.{payload_text}".encode("ascii"), signature)
        return _checkpoint(json.loads(base64url_decoded(payload_text)))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CheckpointInvalid("is not a checkpoint") from None


def ledger_keys(jwks: str) -> dict[str, EllipticCurvePublicKey]:
    """Return the P-256 keys of a JWK Set by their ``kid``; keys of other kinds are left out.

    Raises:
        ValueError: It is not a JWK Set, or one of its P-256 keys is not on the curve.
    """
    try:
        listed = json.loads(jwks)["keys"]
        return {key["kid"]: _public_key(key) for key in listed if key.get("crv") == "P-256"}
    except (KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("is not a JWK Set") from None


def _segments(statement: str) -> list[str]:
    segments = statement.split(".") if len(statement) <= MAX_CHECKPOINT_BYTES else []
    if len(segments) != 3:  # noqa: PLR2004 - RFC 7515 section 7.1
        raise CheckpointInvalid("is not a checkpoint")
    return segments


def _key_of(header: Any, keys: Mapping[str, EllipticCurvePublicKey]) -> EllipticCurvePublicKey:  # noqa: ANN401 - JSON
    # Exactly these three: a `crit`, a `jwk` or a `jku` of somebody else's is not looked at, it is refused.
    if header.keys() != {"alg", "kid", "typ"} or header["alg"] != "ES256" or header["typ"] != CHECKPOINT_TYPE:
        raise CheckpointInvalid("is not a checkpoint")
    if (key := keys.get(header["kid"])) is None:
        raise CheckpointInvalid(f"is signed by a key that is not known: {header['kid']!r}")
    return key


def _verify(key: EllipticCurvePublicKey, signed: bytes, signature: bytes) -> None:
    if len(signature) != _SIGNATURE_BYTES:
        raise CheckpointInvalid("has a signature that does not fit")
    half = _SIGNATURE_BYTES // 2
    encoded = encode_dss_signature(int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))
    try:
        key.verify(encoded, signed, ECDSA(SHA256()))
    except InvalidSignature:
        raise CheckpointInvalid("has a signature that does not fit") from None


def _checkpoint(payload: Any) -> LedgerCheckpoint:  # noqa: ANN401 - JSON
    head = WriterHead(str(payload["writer"]), int(payload["position"]), bytes.fromhex(payload["hash"]))
    if len(head.hash) != _HASH_BYTES or head.position < 1:
        raise CheckpointInvalid("is not a checkpoint")
    return LedgerCheckpoint(str(payload["iss"]), str(payload["ledger"]), head, int(payload["time"]))


def _public_key(jwk: Mapping[str, str]) -> EllipticCurvePublicKey:
    x, y = (int.from_bytes(base64url_decoded(jwk[name])) for name in ("x", "y"))
    return EllipticCurvePublicNumbers(x, y, SECP256R1()).public_key()
