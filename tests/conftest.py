"""For every test."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from support.replaying import assert_replays

from issuer.ledger.errors import LedgerFault
from issuer_testing.issuer_process import IssuerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

# How long one example takes depends on what else the machine does.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_configure() -> None:
    """Mind SIGINT again where a shell that ignores it started the tests: their children would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _every_recorded_decision_replays() -> Iterator[None]:
    """Decide again, whenever an issuer under test has ended, all that it recorded."""
    stop = IssuerProcess.stop

    def stop_and_replay(self: IssuerProcess) -> None:
        stop(self)
        ledger = self._settings.folder / "ledger" / "ledger.sqlite3"
        if ledger.exists():
            with suppress(LedgerFault):  # tests of faults leave files that are no ledger
                assert_replays(ledger)

    IssuerProcess.stop = stop_and_replay  # type: ignore[method-assign]
    yield
    IssuerProcess.stop = stop  # type: ignore[method-assign]
