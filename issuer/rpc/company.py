"""Whether a call waits a moment for others to be answered with.

A token costs half or less in a group (docs/PERFORMANCE.md). Callers who ask again when they are answered come back
together, but a transport may bring them one by one, and each would be answered alone. So the first of them wait until
as many are here as lately were, or none comes any more. Where few are here at once, nobody waits.
"""

from __future__ import annotations

from typing import Final

LEAST: Final = 4
"""With fewer at once, a moment's wait costs a caller more than it saves the issuer."""
LATELY_SECONDS: Final = 0.2
"""How long it counts how many were here: several rounds of 64 callers."""
LOOK_SECONDS: Final = 0.002
"""Who waits looks so often whether others came. Clients that were just answered are back sooner."""
LATE_SECONDS: Final = 0.003
"""A look that comes so long after the one before says nothing of who came: the event loop was busy, and calls wait in
front of it."""
LONGEST_SECONDS: Final = 0.02
"""Nobody waits longer. grpcio takes so long to bring 64 calls, one by one."""


class Company:
    """What is known of how many come together. Pure: all times are seconds of one clock that never goes back."""

    def __init__(self) -> None:
        self._since = float("-inf")
        self._most = self._most_before = 0
        self._waits_since = self._looked = 0.0
        self._seen = 0

    def is_here(self, here: int, now: float) -> bool:
        """Tell whether nobody else is to be expected.

        Args:
            here: The calls that have their turn and are not answered yet. Those that wait for one are not counted: they
                join nobody before others are answered.
            now: The time.
        """
        if now - self._since > LATELY_SECONDS:
            self._most_before = self._most if now - self._since < 2 * LATELY_SECONDS else 0
            self._since, self._most = now, 0
        self._most = max(self._most, here)
        expected = max(self._most, self._most_before)
        return here >= expected or expected < LEAST

    def wait(self, ready: int, now: float) -> None:
        """Begin to wait, with so many calls that could be answered."""
        self._waits_since = self._looked = now
        self._seen = ready

    def is_awaited(self, ready: int, now: float, *, answering: bool) -> bool:
        """Look whether to wait on.

        Args:
            ready: The calls that could be answered.
            now: The time.
            answering: Others are being answered, so their callers will be back.
        """
        came, self._seen = ready > self._seen, ready
        late, self._looked = now - self._looked > LATE_SECONDS, now
        return (came or late or answering) and now - self._waits_since < LONGEST_SECONDS
