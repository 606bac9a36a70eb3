"""Messages that ask for a token and for nothing beside it, read from memory by their bytes."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from issuer.core.errors import InvalidTokenRequest
from issuer.rpc.messages import MAX_REMEMBERED, MAX_REMEMBERED_BYTES
from issuer.rpc.methods import plainly_wanted
from issuer_api.v1 import issuer_service_pb2 as pb

if TYPE_CHECKING:
    from issuer.issuance import Wanted


def plain_request(message: bytes) -> Wanted | None:
    """Return what a serialized IssueTokenRequest asks for; ``None`` where it has to be read with its call.

    That is what cannot be read, what is too long to be remembered, what says of an intent something new each time, what
    names a window of access, and what wants an approval to be asked for.
    """
    return None if len(message) > MAX_REMEMBERED_BYTES else _remembered(message)


@lru_cache(maxsize=MAX_REMEMBERED)
def _remembered(message: bytes) -> Wanted | None:
    try:
        request = pb.IssueTokenRequest.FromString(message)
        if request.access or request.request_approval or request.HasField("intent"):
            return None
        return plainly_wanted(request)
    except (DecodeError, InvalidTokenRequest):
        return None
