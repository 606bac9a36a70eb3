"""What a call's context has on every transport but grpcio: a part of ``grpc.aio.ServicerContext``."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import grpc

from issuer.rpc.asgi_wire import GrpcFault

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

    from issuer.rpc.asgi_wire import Metadata


class CallContext:
    """A call as far as its transport does not matter.

    Args:
        left: Seconds until the caller no longer waits; ``None`` when it did not say.
        limit: The largest message that is sent, in bytes.
        now: The event loop's time.
    """

    __slots__ = ("_deadline", "_limit", "_now")

    def __init__(self, left: float | None, limit: int, now: Callable[[], float]) -> None:
        self._limit = limit
        self._now = now
        self._deadline = None if left is None else now() + left

    def time_remaining(self) -> float | None:
        """Return the seconds until the caller no longer waits; ``None`` when it did not say."""
        return None if self._deadline is None else max(0.0, self._deadline - self._now())

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        """End the call with a status.

        Raises:
            GrpcFault: Always.
        """
        raise GrpcFault(code, details, trailing_metadata)

    def _encoded(self, message: Message | bytes) -> bytes:
        """Return a message as it is sent.

        Raises:
            GrpcFault: RESOURCE_EXHAUSTED, when it is larger than the limit.
        """
        body = message if isinstance(message, bytes) else message.SerializeToString()
        if len(body) > self._limit:
            text = f"sent message larger than max ({len(body)} vs. {self._limit})"
            raise GrpcFault(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        return body


def presented(leaf_pem: bytes | None, intermediates_pem: bytes | None) -> dict[str, list[bytes]]:
    """Return the chain that a peer presented, under grpcio's names: the leaf, and the rest where there is one."""
    if leaf_pem is None:
        return {}
    rest = {} if intermediates_pem is None else {"x509_pem_cert_chain": [intermediates_pem]}
    return {"x509_pem_cert": [leaf_pem]} | rest
