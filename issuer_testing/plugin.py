"""The pytest plugin of ``spiffe-issuer[testing]``: a real SPIRE and a real issuer for any integration suite.

::

    def test_the_settler_gets_a_token(issuer, workload):
        settler = workload("spiffe://prod.example/ns/payments/sa/settler")
        with issuer.client(settler) as client:
            assert client.issue_token("https://ledger.prod.example", ["ledger.read"]).scopes == ("ledger.read",)

``issuer`` is one issuer for the whole session, with the policy that ``issuer_policy`` returns; a suite overrides that
one in its own conftest.

``spire`` is one SPIRE for the whole session; ``workload`` registers an entry and waits for its SVID; ``spire_for``
starts another trust domain, for federation. ``--spire=host|containers`` says how SPIRE runs; the default takes what
comes first (see :mod:`issuer_testing.spire.sources`).

Where no real SPIRE can be had the fixtures fail, with the remedy. They never skip, and never fall back to the embedded
development authority: a test that asks for SPIRE is one that means it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from issuer_testing.deadline import DeadlineExceeded
from issuer_testing.issuer_process import IssuerProcess, IssuerSettings
from issuer_testing.spire.binaries import UnusableSpire
from issuer_testing.spire.development_files import development_entries
from issuer_testing.spire.entry import Entry
from issuer_testing.spire.environment import Spire, SpireEnded, Workload
from issuer_testing.spire.server_commands import SpireRefused
from issuer_testing.spire.sources import Kind, SpireNotFound, start_spire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

TRUST_DOMAIN = "prod.example"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--spire``."""
    parser.getgroup("spiffe-issuer").addoption(
        "--spire",
        choices=[kind.value for kind in Kind],
        default=Kind.AUTO.value,
        help="how the fixture 'spire' runs SPIRE (auto: the first of SPIRE_BIN_DIR, PATH, cache, Docker, build)",
    )


class SpireStarter:
    """The SPIREs of this test session, one for each trust domain, started when they are first asked for."""

    def __init__(self, kind: Kind, say: Callable[[str], None]) -> None:
        self._kind, self._say = kind, say
        self._started: dict[str, Spire] = {}
        self._fault = ""

    def __call__(self, trust_domain: str) -> Spire:
        """Return the SPIRE of a trust domain; the test fails, with the remedy, where there can be none."""
        if trust_domain not in self._started and not self._fault:
            self._start(trust_domain)
        if self._fault:
            pytest.fail(f"this test needs a real SPIRE: {self._fault}", pytrace=False)
        return self._started[trust_domain]

    def _start(self, trust_domain: str) -> None:
        """Start one, or remember why it cannot be: looking again for each test could take minutes each time."""
        try:
            self._started[trust_domain] = start_spire(trust_domain, kind=self._kind, say=self._say)
        except (SpireNotFound, UnusableSpire, SpireEnded, DeadlineExceeded) as error:
            self._fault = str(error)

    def stop(self) -> None:
        """Stop them all."""
        while self._started:
            self._started.popitem()[1].stop()


class WorkloadMaker:
    """Registers entries for the user that runs the tests, and removes them again."""

    def __init__(self, spire: Spire) -> None:
        self._spire = spire
        self._made: list[Workload] = []

    def __call__(
        self,
        spiffe_id: str,
        *,
        dns_names: Sequence[str] = (),
        hint: str = "",
        x509_svid_ttl: int = 0,
        federates_with: Sequence[str] = (),
    ) -> Workload:
        """Register an identity and return when its SVID is there.

        Args:
            spiffe_id: In the trust domain of the fixture ``spire``.
            dns_names: DNS SANs of the SVID.
            hint: What the Workload API says that this identity is for.
            x509_svid_ttl: Lifetime in seconds; SPIRE renews at half of it. 0 means an hour.
            federates_with: SPIFFE IDs of trust domains whose bundle was set by ``spire.set_federated_bundle``.
        """
        entry = Entry(
            spiffe_id,
            dns_names=tuple(dns_names),
            hint=hint,
            x509_svid_ttl=x509_svid_ttl,
            federates_with=tuple(federates_with),
        )
        made = self._spire.workload(entry)
        self._made.append(made)
        return made

    def remove(self) -> None:
        """Delete the entries that were made, but for those that the test deleted."""
        for made in self._made:
            try:
                self._spire.delete_entry(made.entry_id)
            except SpireRefused as refused:
                if "not found" not in str(refused).lower():
                    raise
        self._made.clear()


@pytest.fixture(scope="session")
def spire_for(pytestconfig: pytest.Config) -> Iterator[SpireStarter]:
    """A real SPIRE for any trust domain: ``spire_for("partner.example")``. Each is started once a session."""
    starter = SpireStarter(Kind(pytestconfig.getoption("--spire")), _progress(pytestconfig))
    yield starter
    starter.stop()


@pytest.fixture(scope="session")
def spire(spire_for: SpireStarter) -> Spire:
    """A real SPIRE of the trust domain ``prod.example``, one for the session."""
    return spire_for(TRUST_DOMAIN)


@pytest.fixture
def workload(spire: Spire) -> Iterator[WorkloadMaker]:
    """``workload(spiffe_id, ...)``: an identity for the user that runs the tests, gone after the test."""
    maker = WorkloadMaker(spire)
    yield maker
    maker.remove()


@pytest.fixture(scope="session")
def issuer_policy() -> Path:
    """Return the policy folder or file of the fixture ``issuer``. Override it with your own."""
    # Not at the top: every pytest run loads this plugin, and that module loads gRPC, which does not survive a fork.
    from issuer_testing.development import EXAMPLE_POLICY  # noqa: PLC0415

    return EXAMPLE_POLICY


@pytest.fixture(scope="session")
def issuer(spire: Spire, issuer_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[IssuerProcess]:
    """A real issuer in the trust domain of ``spire``, one for the session."""
    identity = spire.workload(development_entries(spire.trust_domain)["issuer"])
    settings = IssuerSettings(
        folder=tmp_path_factory.mktemp("issuer"),
        policy=issuer_policy,
        workload_api=identity.socket,
        spiffe_id=identity.spiffe_id,
    )
    with IssuerProcess(settings) as running:
        yield running
    spire.delete_entry(identity.entry_id)


def _progress(config: pytest.Config) -> Callable[[str], None]:
    """Return what shows a line at once, past pytest's capture: a build of SPIRE takes minutes."""
    capture = config.pluginmanager.getplugin("capturemanager")
    terminal = config.pluginmanager.getplugin("terminalreporter")

    def say(line: str) -> None:
        if terminal is None:
            return
        if capture is None:
            terminal.write_line(line)
            return
        with capture.global_and_fixture_disabled():
            terminal.ensure_newline()
            terminal.write_line(line)

    return say
