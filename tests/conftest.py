"""For every test."""

from __future__ import annotations

import signal

from hypothesis import settings

# How long one example takes depends on what else the machine does.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_configure() -> None:
    """Mind SIGINT again where a shell that ignores it started the tests: their children would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
