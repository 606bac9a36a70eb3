"""For every test."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Mind SIGINT again where a shell started the tests in the background: their children would inherit its deafness."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
