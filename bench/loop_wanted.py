"""What the looped issuer is told (``bench/looped_issuer.py``), apart from it: it replaces parts when it is run."""

from __future__ import annotations

from typing import Final, NamedTuple

WANTED_FILE: Final = "loop.json"


class Wanted(NamedTuple):
    """What is wanted.

    Attributes:
        credentials: The folder with ``chain.pem``, the caller's.
        callers: Calls at once.
        seconds: For how long, each time.
        report: Where the figures go.
        work: What is called, of :data:`bench.load.WORK`.
    """

    credentials: str
    callers: int
    seconds: float
    report: str
    work: str = "token"
