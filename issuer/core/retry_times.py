"""When those come back who were refused because there was too much to do."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

SHORTEST_SECONDS: Final = 0.5
STEPS: Final = 16
"""Callers who are refused together are told so many different times to come back, all of one span."""
LOOK_SECONDS: Final = 1.0
SPANS: Final = (1.0, 2.0, 4.0)
"""Of seconds. A client with a deadline of ten seconds comes back twice within the longest; our own gives up where the
wait is longer than what it has."""
WORTH_IT: Final = 8
"""One refusal for so many answers is as it should be: fewer, and the issuer would soon have nothing to do; more, and
refusing would take what answering needs."""


class RetryTimes:
    """Spreads callers who come back: the more have to, the longer. Times are seconds of one clock."""

    def __init__(self) -> None:
        self._step = 0
        self._span = 0
        self._since = float("-inf")
        self._answered = self._refused = 0

    def answered(self) -> None:
        """Note an answer."""
        self._answered += 1

    def after_refusal(self, now: float) -> timedelta:
        """Note a refusal, and return when its caller is to come back."""
        self._refused += 1
        if now - self._since >= LOOK_SECONDS:
            self._look(now)
        self._step = (self._step + 7) % STEPS  # 7 has no common factor with 16: every step, far apart
        return timedelta(seconds=SHORTEST_SECONDS + SPANS[self._span] * self._step / STEPS)

    def _look(self, now: float) -> None:
        """Take a longer or a shorter span, by what became of the calls since the last look."""
        too_many = self._refused * WORTH_IT > self._answered
        recent = now - self._since < 2 * LOOK_SECONDS  # a first refusal after a while says nothing about a crowd
        self._span = min(self._span + 1, len(SPANS) - 1) if too_many and recent else max(self._span - 1, 0)
        self._since, self._answered, self._refused = now, 0, 0
