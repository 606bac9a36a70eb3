"""What the supervisor of worker processes decides. Pure: what happened and the time go in, what to do comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 10.0
STEADY_SECONDS: Final = 60.0
"""A worker that lived this long did not die of how it was started: the next one waits only the first pause."""
LOOP_FAILURES: Final = 4
"""So many short lives in a row are a loop, which people are told of: the pauses have come to 3 s by then."""
MAX_WORKERS: Final = 64


class Restarts:
    """When the worker of one place is started again."""

    def __init__(self) -> None:
        self.failures = 0

    def pause_after(self, lived: float, *, asked: bool) -> float:
        """Return for how long to wait until the next start.

        Args:
            lived: Seconds that the last one lived.
            asked: Whether it ended because it was asked to.
        """
        if asked:
            return 0.0
        self.failures = 1 if lived >= STEADY_SECONDS else self.failures + 1
        return float(min(FIRST_PAUSE_SECONDS * 2 ** (self.failures - 1), LONGEST_PAUSE_SECONDS))

    @property
    def is_loop(self) -> bool:
        """Whether it dies again and again."""
        return self.failures >= LOOP_FAILURES


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker last said of itself: whether it serves, and why not."""

    serving: bool
    reason: str = ""


STARTING: Final = Report(serving=False, reason="the issuer is starting")


def pool_readiness(reports: Collection[Report]) -> Report:
    """Return whether the issuer serves: while at least one of its workers does.

    A worker that does not serve is not reached either: what listens no more gets no connections, and clients of gRPC
    ask each connection. So the others go on.
    """
    for report in reports:
        if report.serving:
            return report
    return next((report for report in reports if report.reason), STARTING)


def strays(answers: Mapping[int, str | None], digest: str) -> list[int]:
    """Return which workers may not go on: those that did not answer in time, or came to another policy.

    Args:
        answers: By worker, the digest of what it loaded; ``None`` for no answer.
        digest: What it has to be.
    """
    return [worker for worker, answer in answers.items() if answer != digest]


def worker_count(asked: int, cores: int) -> int:
    """Return how many workers there are; 0 asks for one on each core that may be used."""
    return min(asked or max(cores, 1), MAX_WORKERS)
