"""The system clock and the system's randomness, as the ports ``Clock`` and ``Ids``."""

from __future__ import annotations

import os
from collections import deque
from datetime import UTC, datetime
from typing import Final

_RANDOM_BYTES: Final = 10
"""What an identifier takes, in whole bytes: 74 bits, and two that give way to the variant."""
_IDS_AT_ONCE: Final = 256
_VARIANT: Final = {f"{digit:x}": f"{0b1000 | digit & 0b0011:x}" for digit in range(16)}
"""The variant, in place of 2 bits."""


class SystemClock:
    """The wall clock of this machine."""

    def now(self) -> datetime:
        """Return the current time in UTC."""
        return datetime.now(UTC)  # noqa: TID251 - this is the one place


class RandomIds:
    """Identifiers from the operating system's random source. For any thread.

    It is asked for many at once: each time, the interpreter would let another thread go on, and wait for it. Nothing of
    that is used twice: a thread takes a piece off the heap before it looks at it, and a forked process begins anew.
    """

    def __init__(self) -> None:
        self._heap: deque[bytes] = deque()
        self._last: tuple[datetime, str] | None = None
        os.register_at_fork(after_in_child=self._heap.clear)

    def fresh_id(self, now: datetime) -> str:
        """Return a UUIDv7 (RFC 9562 section 5.7): 48 bits of milliseconds, then 74 random bits."""
        last = self._last
        if last is None or last[0] is not now:  # those that come together ask with the same object
            milliseconds = int(now.timestamp() * 1000) & 0xFFFF_FFFF_FFFF
            text = milliseconds.to_bytes(6).hex()
            last = self._last = now, f"{text[:8]}-{text[8:]}-7"  # the version, in place of 4 bits
        random = self._random().hex()
        return f"{last[1]}{random[:3]}-{_VARIANT[random[3]]}{random[4:7]}-{random[7:19]}"

    def _random(self) -> bytes:
        try:
            return self._heap.popleft()
        except IndexError:
            fresh = os.urandom(_RANDOM_BYTES * _IDS_AT_ONCE)
            first, *others = (fresh[at : at + _RANDOM_BYTES] for at in range(0, len(fresh), _RANDOM_BYTES))
            self._heap.extend(others)
            return first
