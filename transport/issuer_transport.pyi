"""gRPC over mutual TLS for spiffe-issuer; see transport/src."""

from typing import Any, Final, final

INTERFACE: Final[int]
"""What the issuer expects of this module; another number is another wheel."""

@final
class Peer:
    """Who is at the other end of a connection; one object for all of its calls."""

    @property
    def address(self) -> str:
        """``ipv4:10.0.0.7:1234``, as gRPC spells it."""
    @property
    def leaf_pem(self) -> bytes | None:
        """The certificate whose key TLS has proved."""
    @property
    def intermediates_pem(self) -> bytes | None:
        """The rest of what was presented."""

@final
class Headers:
    """What a call came with."""

    def list(self) -> list[tuple[bytes, bytes]]:
        """Return all fields, names in lower case."""

@final
class Server:
    """A server on a listening socket, in a thread of its own.

    Args:
        listener: The socket's descriptor, which is the server's from now on.
        bell: An eventfd, which becomes readable when there is something to :meth:`take`. It must outlive the server.
        chain: What handshakes show, as PEM; ``key`` and ``roots`` likewise.
        key: Its private key.
        roots: Whom they accept. At least one.
        max_message: The largest message that is read, in bytes.
        max_metadata: The largest metadata of a call, in bytes.
        max_streams: Calls at once on a connection.
        max_connections: Connections at once, those in their handshake with them.
        max_resets: Calls of a connection that were reset before they were looked at, until it ends.
        age: After so many seconds, a tenth more or less, a connection is told to go.
        grace: Seconds that its calls may then still take.
        handshake: Seconds that a connection may take to prove itself.
        idle: After so many seconds without a call a connection is told to go.
        keepalive_time: So often, in seconds, a peer is asked whether it is there.
        keepalive_timeout: Seconds that it may take to answer.

    Raises:
        ValueError: The material cannot be used.
    """

    def __new__(
        cls,
        listener: int,
        bell: int,
        chain: bytes,
        key: bytes,
        roots: bytes,
        *,
        max_message: int,
        max_metadata: int,
        max_streams: int,
        max_connections: int,
        max_resets: int,
        age: float,
        grace: float,
        handshake: float,
        idle: float,
        keepalive_time: float,
        keepalive_timeout: float,
    ) -> Server: ...
    def start(self) -> None:
        """Accept connections."""
    def use_material(self, chain: bytes, key: bytes, roots: bytes) -> None:
        """Make the next handshakes with this.

        Raises:
            ValueError: It cannot be used; nothing changes.
        """
    def take(self) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """Return the calls that came, and what else happened.

        A call is ``(id, path, message or None, ended, Peer, seconds left or None, Headers)``. What else:
        ``("cancelled", id)``, ``("unreadable", id)``, ``("written", id)``, ``("message", id, message or None)``,
        ``("handshake_failed", peer, why)``, ``("finished",)``.
        """
    def answer(self, answers: list[tuple[int, bytes]]) -> None:
        """Answer calls of one message each with it, and the status OK. Calls that are over are passed over."""
    def send(self, id: int, message: bytes) -> None:
        """Send one of several messages; ``("written", id)`` comes when there is room for the next."""
    def end(self, id: int, trailers: list[tuple[bytes, bytes]]) -> None:
        """End a call with a status, as the trailers that carry it.

        Raises:
            ValueError: They are no header fields.
        """
    def more(self, id: int) -> None:
        """Ask for the next message of a call: ``("message", id, message or None)`` comes."""
    def finish(self) -> None:
        """Accept no more, and let connections end with their calls; ``("finished",)`` comes when all have."""
    def end_calls(self) -> None:
        """End every call with UNAVAILABLE, and every connection."""
    def join(self) -> None:
        """Return once the server's thread has ended."""
