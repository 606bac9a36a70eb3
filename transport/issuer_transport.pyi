# What the native transport offers; documented where it is written, transport/src/python.rs and signing.rs.

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final, final

INTERFACE: Final[int]

@final
class Peer:
    @property
    def address(self) -> str: ...
    @property
    def leaf_pem(self) -> bytes | None: ...
    @property
    def intermediates_pem(self) -> bytes | None: ...
    def share(self, allowance: Allowance) -> None: ...

@final
class Allowance:
    def __new__(cls) -> Allowance: ...
    def set(self, calls: int, seconds: float) -> int: ...

@final
class Headers:
    def list(self) -> list[tuple[bytes, bytes]]: ...

@final
class SigningKey:
    def __new__(cls, pkcs8: bytes) -> SigningKey: ...
    def sign(self, inputs: Sequence[bytes]) -> list[bytes]: ...

@final
class Server:
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
        min_ping_interval: float,
        shed: AbstractSet[str],
        hold: float,
        hold_tick: float,
        hold_from: float,
    ) -> Server: ...
    def start(self) -> None: ...
    def use_material(self, chain: bytes, key: bytes, roots: bytes) -> None: ...
    def take(self) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]: ...
    def answer(self, answers: list[tuple[int, bytes]]) -> None: ...
    def send(self, number: int, message: bytes) -> None: ...
    def end(self, number: int, trailers: list[tuple[bytes, bytes]]) -> None: ...
    def refuse_with(self, statuses: Sequence[list[tuple[bytes, bytes]]], max_held: int) -> None: ...
    def more(self, number: int) -> None: ...
    def finish(self) -> None: ...
    def end_calls(self) -> None: ...
    def join(self) -> None: ...
