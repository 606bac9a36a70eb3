"""For every test."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Mind SIGINT again where a shell that ignores it started the tests: their children would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
