"""A policy's files as one compressed value, as the ledger keeps them."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

import msgpack

from issuer.core.policy_parser import PolicyFile

if TYPE_CHECKING:
    from collections.abc import Iterable

_LEVEL: Final = 6


def pack_files(files: Iterable[PolicyFile]) -> bytes:
    """Return files, with their names, as bytes: MessagePack pairs of name and content, in zlib (RFC 1950)."""
    return zlib.compress(msgpack.packb([(file.name, file.content) for file in files], use_bin_type=True), _LEVEL)


def unpack_files(packed: bytes) -> list[PolicyFile]:
    """Return the files of :func:`pack_files`, which wrote them: nothing else is read here."""
    return [PolicyFile(*pair) for pair in msgpack.unpackb(zlib.decompress(packed), raw=False)]
