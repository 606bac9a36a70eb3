"""What a monitoring system learns of a running issuer: metrics of calls and of how things stand, and traces."""

from __future__ import annotations

import asyncio
import platform
from importlib.metadata import version
from typing import TYPE_CHECKING

from issuer.core.errors import TemporarilyUnavailable
from issuer.core.policy import RiskTier
from issuer.metrics.metrics import Metrics, MetricsListenerFault
from issuer.observing import UNTRACED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AsyncExitStack
    from datetime import datetime

    from structlog.typing import FilteringBoundLogger

    from issuer.config_sections import MetricsSection, TracingSection
    from issuer.core.intent_book import IntentBook
    from issuer.core.key_ring import KeyRing
    from issuer.facts.authzen import AuthzenSource
    from issuer.facts.store import FactStore
    from issuer.ledger.group_commit import GroupCommit
    from issuer.ledger.json_lines import JsonLines
    from issuer.observing import Metadata, Trace
    from issuer.policy_files.directory import DirectoryPolicyBook
    from issuer.ports import Clock
    from issuer.signing.signing_keys import SigningKeys
    from issuer.spire.identity import SpireIdentity
    from issuer.tracing.export import TraceExport
    from issuer.tracing.tracer import Tracer

_TIERS = list(RiskTier)
_FROM_A_FILE = "file:"
"""How the feeder of a folder spells its sources; every other one is a SPIFFE ID, which no label may hold."""


class TracingFault(Exception):
    """Traces cannot be sent. The message says why, for a person."""


TELEMETRY_FAULTS = (MetricsListenerFault, TracingFault)
"""What :meth:`TelemetryKeeping.open` raises; each has a message for a person."""


class TelemetryKeeping:
    """Opens what tells others about the issuer, and connects it to what it tells of.

    It is the :class:`~issuer.observing.CallObserver`; its :attr:`metrics` observe the ledger and the policy.

    Args:
        metrics: Where metrics can be read.
        tracing: Where traces go.
        clock: The time of a scrape.
        log: Where it reports.
    """

    def __init__(
        self,
        metrics: MetricsSection,
        tracing: TracingSection,
        *,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self._listen = metrics.listen
        self._tracing = tracing
        self._policies: DirectoryPolicyBook | None = None
        self._clock = clock
        self._log = log
        self._tracer: Tracer | None = None
        self._refused_fact_files = 0
        self.metrics = Metrics(self._risk_of)

    def open(self, policies: DirectoryPolicyBook, keys: SigningKeys, stack: AsyncExitStack) -> None:
        """Listen for scrapes, and be ready to trace.

        Args:
            policies: The policy, for what metrics say of it and of risk.
            keys: The signing keys, for their number and their age.
            stack: Ends both.

        Raises:
            MetricsListenerFault: The address cannot be used.
            TracingFault: The collector's authorities cannot be read.
        """
        self._policies = policies
        if self._listen is not None:
            stack.callback(self.metrics.serve(self._listen))
        self._watch_build()
        self._watch_policy(policies)
        self._watch_keys(keys)
        if self._tracing.endpoint is not None:
            self._open_tracing(self._tracing.endpoint, stack)

    def began(self, metadata: Metadata, now: datetime) -> Trace:
        """Begin to note what a call does, if it may come to be traced."""
        return UNTRACED if self._tracer is None else self._tracer.began(metadata, now)

    def ended(self, trace: Trace, method: str, code: str, seconds: float, fields: Mapping[str, object]) -> str | None:
        """Count a call, and send its trace, if it has one."""
        self.metrics.call_ended(method, code, seconds, fields)
        return None if self._tracer is None else self._tracer.ended(trace, method, code, fields)

    def _open_tracing(self, endpoint: str, stack: AsyncExitStack) -> None:
        # Imported here, since it costs memory that an issuer without traces does not spend.
        from issuer.tracing.export import ExportSettings, TraceExport  # noqa: PLC0415
        from issuer.tracing.tracer import Tracer  # noqa: PLC0415

        section = self._tracing
        settings = ExportSettings(
            endpoint=endpoint,
            timeout=section.timeout,
            max_queue=section.max_queue,
            ca_file=section.ca_file,
        )
        resource = {"service.name": "spiffe-issuer", "service.version": version("spiffe-issuer")}
        try:
            export = TraceExport(settings, resource, self._log)
        except OSError as error:
            raise TracingFault(
                f"[tracing] ca_file: {section.ca_file} cannot be used: {error.strerror or error}"
            ) from None
        stack.push_async_callback(asyncio.to_thread, export.close)
        self._tracer = Tracer(section.ratio, section.trusted_callers, export.send, identities=section.identities)
        self._watch_export(export)

    def _risk_of(self, audience: str, scopes: Sequence[str]) -> str:
        rule = self._policies.current().audiences.get(audience) if self._policies else None
        known = [rule.scopes[name].risk for name in scopes if name in rule.scopes] if rule else []
        return max(known, key=_TIERS.index, default="")

    def _watch_build(self) -> None:
        labels = {("version",): version("spiffe-issuer"), ("python_version",): platform.python_version()}
        names = tuple(name for (name,) in labels)
        self.metrics.gauges.many("issuer_build_info", "1, for what runs.", names, lambda: {tuple(labels.values()): 1.0})

    def _watch_policy(self, policies: DirectoryPolicyBook) -> None:
        gauges, status = self.metrics.gauges, policies.status
        gauges.one(
            "issuer_policy_age_seconds",
            "How long ago the policy in force was loaded.",
            lambda: self._since(status().current.loaded_at),
        )
        gauges.one(
            "issuer_policy_reload_failing",
            "1 while the files hold a policy that was refused, and the one before stays in force.",
            lambda: status().last_fault is not None,
        )
        gauges.one("issuer_policy_pinned", "1 while a rollback holds the policy.", lambda: status().pinned)

    def _watch_export(self, export: TraceExport) -> None:
        self.metrics.gauges.counts(
            "issuer_traces_sent", "Traced calls that the collector took.", (), lambda: {(): export.sent}
        )
        self.metrics.gauges.counts(
            "issuer_traces_dropped",
            "Traced calls that were dropped, by cause.",
            ("cause",),
            lambda: {("no_room",): export.no_room, ("not_taken",): export.not_taken},
        )

    def watch_ledger(self, ledger: GroupCommit, copy: JsonLines | None) -> None:
        """Show how many entries wait, whether all can be written, and what the copy misses."""
        gauges = self.metrics.gauges
        gauges.one("issuer_ledger_waiting_entries", "Entries that wait for the next commit.", lambda: ledger.waiting)
        gauges.one(
            "issuer_ledger_writable",
            "1 while the ledger, and a required copy, can be written.",
            lambda: ledger.fault is None,
        )
        gauges.one(
            "issuer_ledger_copy_missed_entries",
            "Entries that are in the ledger and not in its copy.",
            lambda: copy.missed if copy else 0,
        )

    def watch_intents(self, intents: IntentBook) -> None:
        """Show how many intents can be redeemed, now or later."""
        self.metrics.gauges.one(
            "issuer_intents_open", "Intents that are neither used up nor over.", lambda: intents.open_count
        )

    def _watch_keys(self, keys: SigningKeys) -> None:
        """Show how many keys are published, and how old the one that signs is: since its file was written."""
        self.metrics.gauges.one(
            "issuer_signing_key_age_seconds",
            "How long ago the file of the signing key was written.",
            lambda: self._clock.now().timestamp() - keys.active().written,
        )
        self.metrics.gauges.many(
            "issuer_signing_keys", "Keys that are published, by state.", ("state",), lambda: _by_state(keys.ring)
        )

    def watch_facts(self, store: FactStore, sources: Sequence[AuthzenSource]) -> None:
        """Show how many facts there are, and which decision points answer."""
        gauges = self.metrics.gauges
        gauges.many(
            "issuer_facts",
            "Facts in memory, by whether files or feeders told them; some may have ended.",
            ("source",),
            lambda: _by_kind(store.feeders()),
        )
        gauges.one("issuer_fact_files_refused", "Files of facts that cannot be used.", lambda: self._refused_fact_files)
        gauges.many(
            "issuer_fact_source_available",
            "1 while a decision point's last answer could be used.",
            ("source",),
            lambda: {(source.settings.name,): not source.is_away for source in sources},
        )

    def fact_files_read(self, refused: int) -> None:
        """Note how many files of facts could not be used."""
        self._refused_fact_files = refused

    def watch_identity(self, identity: SpireIdentity, *, is_connected: Callable[[], bool]) -> None:
        """Show the age of what SPIRE gave, and what is left of it."""
        gauges = self.metrics.gauges
        gauges.one("issuer_spire_connected", "1 while the Workload API is followed.", lambda: float(is_connected()))
        gauges.one(
            "issuer_svid_age_seconds",
            "How long the issuer's own SVID has been valid.",
            lambda: self._since(identity.svid_issued_at()),
        )
        gauges.one(
            "issuer_svid_remaining_seconds",
            "How long the issuer's own SVID stays valid; negative when it expired.",
            lambda: -self._since(identity.svid_expires_at()),
        )
        gauges.many(
            "issuer_bundle_age_seconds",
            "How long ago the Workload API last told the bundle of a trust domain that may call.",
            ("trust_domain",),
            lambda: dict.fromkeys(
                ((name,) for name, count in _bundles(identity).items() if count is not None),
                self._since(identity.updated_at()),
            ),
        )
        gauges.many(
            "issuer_bundle_authorities",
            "Authorities in the bundle of a trust domain that may call; 0 when it is empty or unknown.",
            ("trust_domain",),
            lambda: {(name,): count or 0 for name, count in _bundles(identity).items()},
        )

    def watch_turns(self, running: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Show how many turns are taken, and how many requests wait for one."""
        gauges = self.metrics.gauges
        gauges.one("issuer_turns_taken", "Calls that run, batches with one more for each 16 items.", running)
        gauges.one("issuer_waiting_requests", "Requests that wait for their turn.", waiting)

    def watch_readiness(self, identity: SpireIdentity, ledger: GroupCommit) -> None:
        """Show whether the issuer can serve."""
        self.metrics.gauges.one(
            "issuer_ready",
            "1 while the issuer has a valid SVID and its ledger can be written.",
            lambda: _has_identity(identity) and ledger.fault is None,
        )

    def _since(self, moment: datetime) -> float:
        return (self._clock.now() - moment).total_seconds()


def _bundles(identity: SpireIdentity) -> dict[str, int | None]:
    """Return how many authorities there are of each trust domain that may call; ``None`` where no bundle is known."""
    allowed = sorted(identity.allowed_trust_domains())
    found = [(str(each), identity.authorities(each)) for each in allowed]
    return {name: None if authorities is None else len(authorities) for name, authorities in found}


def _by_state(ring: KeyRing) -> dict[tuple[str, ...], float]:
    retired = sum(each.gone is None for each in ring.former)
    return {("next",): ring.next is not None, ("active",): 1, ("retired",): retired}


def _by_kind(feeders: Mapping[str, int]) -> dict[tuple[str, ...], float]:
    files = sum(count for feeder, count in feeders.items() if feeder.startswith(_FROM_A_FILE))
    return {("files",): files, ("feeders",): sum(feeders.values()) - files}


def _has_identity(identity: SpireIdentity) -> bool:
    try:
        identity.own_id()
    except TemporarilyUnavailable:
        return False
    return True
