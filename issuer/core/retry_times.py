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
CROWD: Final = 2
"""More than so many refusals for each answer, and callers come back too soon; fewer than one, and they may come back
sooner again. Clients that do as they are told keep the issuer just busy with less than that: if they stayed away for
longer they would leave it idle, which costs more than refusing them now and then."""


_TIMES: Final = tuple(
    # 7 has no common factor with 16: every step, far apart
    tuple(timedelta(seconds=SHORTEST_SECONDS + span * (7 * step % STEPS) / STEPS) for step in range(STEPS))
    for span in SPANS
)


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
        self.refused(1, now)
        self._step = (self._step + 1) % STEPS
        return self.times[self._step]

    def refused(self, calls: int, now: float) -> None:
        """Note refusals of callers who were told one of :attr:`times`."""
        self._refused += calls
        if now - self._since >= LOOK_SECONDS:
            self._look(now)

    @property
    def times(self) -> tuple[timedelta, ...]:
        """After how long those come back who are refused now, one after the other."""
        return _TIMES[self._span]

    def _look(self, now: float) -> None:
        """Take a longer or a shorter span, by what became of the calls since the last look."""
        recent = now - self._since < 2 * LOOK_SECONDS  # a first refusal after a while says nothing about a crowd
        if recent and self._refused > CROWD * self._answered:
            self._span = min(self._span + 1, len(SPANS) - 1)
        elif not recent or self._refused < self._answered:
            self._span = max(self._span - 1, 0)
        self._since, self._answered, self._refused = now, 0, 0
