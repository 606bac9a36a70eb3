"""For every test."""

from __future__ import annotations

import os
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
# Those that a shell ignores for what it starts in the background, or by nohup.
_SIGNALS: dict[int, signal._HANDLER] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGQUIT: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--transport", choices=["grpcio", "h2corn", "native"], help="the transport of every issuer that is started"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Choose the transport of every issuer that is started.

    And mind signals again where a shell that ignores them started the tests: their children would inherit that.
    """
    if transport := config.getoption("--transport"):
        os.environ["ISSUER_SERVER_TRANSPORT"] = transport
    for number, handler in _SIGNALS.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for ``transport`` on each, or on the chosen one."""
    if "transport" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--transport")
        metafunc.parametrize("transport", [chosen] if chosen else ["grpcio", "h2corn"], scope="session")


@pytest.fixture
def not_on_h2corn(request: pytest.FixtureRequest) -> None:
    """For what h2corn alone does not: docs/OPERATING.md, "Transports", says what it does instead."""
    if request.config.getoption("--transport") == "h2corn":
        pytest.skip("not on h2corn")


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
