"""A whole development environment on this host: identities, an issuer, and the example workloads and policy.

The identities come from a real SPIRE where one can be had, else from the embedded authority; what stands on top is the
same. For ``issuer dev up`` and the demo.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from issuer_testing.issuer_process import Identity, IssuerProcess, IssuerSettings
from issuer_testing.spire.development_files import development_entries
from issuer_testing.spire.embedded import DevelopmentAuthority
from issuer_testing.spire.run_folder import RunFolder
from issuer_testing.spire.sources import SpireNotFound, start_spire

if TYPE_CHECKING:
    from collections.abc import Callable

    from issuer_testing.spire.entry import Entry

EXAMPLE_POLICY = Path(__file__).with_name("example_policy")
POLICY_TRUST_DOMAIN = "prod.example"
EMBEDDED_TRUST_DOMAIN = "prod.test"


class Source(StrEnum):
    """Where identities may come from."""

    AUTO = "auto"
    """A real SPIRE where one is at hand, without building it; else the embedded authority."""
    SPIRE = "spire"
    """A real SPIRE, built first where there is none."""
    EMBEDDED = "embedded"
    """The embedded authority."""


class Identities(Protocol):
    """A running SPIRE, or what stands for one."""

    @property
    def trust_domain(self) -> str:
        """The name without scheme."""
        ...

    def workload(self, entry: Entry, /) -> Identity:
        """Register an entry and return the identity once it is there."""
        ...


class Development:
    """Identities, the example workloads, and an issuer with the example policy.

    Attributes:
        identities: Where identities come from.
        embedded: Whether that is the embedded authority.
        issuer: The issuer.
        settler: The settlement workload, which the policy lets use the ledger.
        reader: The reporting workload, which it does not.
        refunds: The refunds workload, which people have to approve.
        approver: A person's identity, which may approve.
        archive: The archive, which does what others registered for it.
        ledger_api: The ledger API, which may know what was revoked.
    """

    identities: Identities
    issuer: IssuerProcess
    settler: Identity
    reader: Identity
    refunds: Identity
    approver: Identity
    archive: Identity
    ledger_api: Identity

    def __init__(self, source: Source, *, svid_ttl: int = 0, say: Callable[[str], None]) -> None:
        """Describe it; entering it starts it.

        Args:
            source: Where identities may come from.
            svid_ttl: Lifetime of the settlement workload's SVID in seconds; 0 is the usual one.
            say: Called with one line of progress at a time.
        """
        self._source, self._svid_ttl, self._say = source, svid_ttl, say
        self._stack = ExitStack()

    @property
    def embedded(self) -> bool:
        """Whether the identities are the embedded authority's."""
        return isinstance(self.identities, DevelopmentAuthority)

    def __enter__(self) -> Self:
        """Start everything.

        Raises:
            SpireNotFound: A real SPIRE was asked for and cannot be had; the message says what to do.
            IssuerDidNotStart: With its log.
        """
        with self._stack as starting:
            self.identities = self._identities()
            entries = development_entries(self.identities.trust_domain)
            issuer = self.identities.workload(entries["issuer"])
            settler = replace(entries["settlement-workload"], x509_svid_ttl=self._svid_ttl)
            self.settler = self.identities.workload(settler)
            self.reader = self.identities.workload(entries["reports-workload"])
            self.refunds = self.identities.workload(entries["refunds-workload"])
            self.approver = self.identities.workload(entries["approver"])
            self.archive = self.identities.workload(entries["archive-workload"])
            self.ledger_api = self.identities.workload(entries["ledger-api"])
            self.issuer = starting.enter_context(IssuerProcess(self._settings(issuer)))
            self._say(f"issuer: ready at {self.issuer.address}, key set and metadata at {self.issuer.url}")
            self._stack = starting.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _identities(self) -> Identities:
        if self._source is not Source.EMBEDDED:
            try:
                real = start_spire(POLICY_TRUST_DOMAIN, say=self._say, may_build=self._source is Source.SPIRE)
            except SpireNotFound:
                if self._source is Source.SPIRE:
                    raise
                self._say("SPIRE: none at hand, so the embedded development authority stands in for it")
            else:
                return self._stack.enter_context(real)
        return self._stack.enter_context(DevelopmentAuthority(EMBEDDED_TRUST_DOMAIN, announce=self._say))

    def _settings(self, identity: Identity) -> IssuerSettings:
        folder = RunFolder()
        self._stack.callback(folder.remove)
        policy = folder.path / "policy"
        policy.mkdir()
        for file in EXAMPLE_POLICY.glob("*.yaml"):
            text = file.read_text(encoding="utf-8")
            # SPIFFE IDs only: the audiences are names, whoever proves the identities.
            moved = text.replace(f"spiffe://{POLICY_TRUST_DOMAIN}/", f"spiffe://{self.identities.trust_domain}/")
            (policy / file.name).write_text(moved, encoding="utf-8")
        return IssuerSettings(
            folder=folder.path / "issuer",
            policy=policy,
            workload_api=identity.socket,
            spiffe_id=identity.spiffe_id,
            insecure_dev=self.embedded,
        )
