"""The metrics of the issuer, in Prometheus' text format on a listener of their own; docs/OPERATING.md lists them.

Names and labels follow OpenTelemetry's conventions as Prometheus spells them. No label is something that a caller
chooses, and none names a caller, an audience or a token: what is counted stays few, whoever calls.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, start_http_server

from issuer.core.record import DecisionRecord, Outcome
from issuer.metrics.state import Gauges

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from issuer.core.ledger_entries import Entry

CALL_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""Those of OpenTelemetry's `rpc.server.call.duration`, and three below them: a token takes a few milliseconds."""
STATUS_CODE_LABEL: Final = "rpc_response_status_code"
"""`rpc.response.status_code` in the conventions' 1.44.0, and `rpc.status_code` in what comes after it."""
_COMMIT_SECONDS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_ENTRIES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)
_REFUSED_IDENTITY = "UNAUTHENTICATED"

_Alike = tuple[int, str, str, str, str, str, bool]
"""What is counted of a decision: outcome, reason, grant type, trust domain, audience, scopes, if it has a token."""


@lru_cache(maxsize=4096)  # a caller calls more than once; as many as there are verdicts
def _trust_domain_of(caller: str) -> str:
    return caller.split("/", 3)[2]


class MetricsListenerFault(Exception):
    """The listener cannot be opened. The message says why, for a person."""


class Metrics:
    """What happened since the start.

    Args:
        risk_of: Returns the highest risk tier among scopes of an audience; ``""`` when policy no longer knows them.
    """

    def __init__(self, risk_of: Callable[[str, Sequence[str]], str] = lambda _audience, _scopes: "") -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.gauges = Gauges(self.registry)
        self._risk_of = risk_of
        self._calls = Histogram(
            "rpc_server_call_duration_seconds",
            "How long calls took, by method and status. A stream counts when it ends.",
            ("rpc_system_name", "rpc_method", STATUS_CODE_LABEL),
            buckets=CALL_SECONDS,
            registry=self.registry,
        )
        # The children that exist, since to look one up costs more than to count; as few as their labels' values.
        self._calls_by: dict[tuple[str, str], Histogram] = {}
        self._decisions_by: dict[tuple[int, str, str, str], Counter] = {}
        self._tokens_by: dict[tuple[str, str, str], Counter] = {}
        self._identities = self._counter(
            "issuer_svid_verify_failures", "Calls refused since the caller's X.509-SVID was not accepted.", "reason"
        )
        self._decisions = self._counter(
            "issuer_decisions", "Decisions that are durable.", "outcome", "reason", "grant_type", "trust_domain"
        )
        self._tokens = self._counter(
            "issuer_tokens_issued",
            "Tokens whose record is durable, by the highest risk tier among their scopes.",
            "grant_type",
            "risk",
            "trust_domain",
        )
        self._commit = Histogram(
            "issuer_ledger_commit_duration_seconds",
            "How long commits of the ledger took.",
            buckets=_COMMIT_SECONDS,
            registry=self.registry,
        )
        self._batch = Histogram(
            "issuer_ledger_commit_entries", "Entries that shared a commit.", buckets=_ENTRIES, registry=self.registry
        )
        self._refused = self._counter("issuer_ledger_refused_requests", "Requests refused because of the ledger.")
        self._failed = self._counter("issuer_ledger_failed_commits", "Commits that failed.")
        self._policy_changes = self._counter("issuer_policy_changes", "Policies put in force, the first not counted.")
        self._policy_failures = self._counter("issuer_policy_reload_failures", "Policies that were refused.")
        self._expired_intents = self._counter("issuer_intents_expired", "Intents that nobody redeemed in time.")

        self._refused_calls = self._counter(
            "issuer_refused_calls",
            "Calls that were told to come back later, by the caller's trust domain.",
            "trust_domain",
        )
        self._refused_calls.labels("")  # there from the start, so that a rate of it can be asked for

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def call_ended(self, method: str, code: str, seconds: float, fields: Mapping[str, object]) -> None:
        """Count a call; see :meth:`issuer.observing.CallObserver.ended`. ``method`` is one that the issuer serves."""
        call = self._calls_by.get((method, code))
        if call is None:
            call = self._calls_by[method, code] = self._calls.labels("grpc", method, code)
        call.observe(seconds)
        if code == _REFUSED_IDENTITY:
            self._identities.labels(fields.get("reason", "")).inc()

    def calls_refused(self, trust_domain: str, calls: int) -> None:
        """Count calls that were told to come back later. ``trust_domain`` is one that may call, or empty."""
        self._refused_calls.labels(trust_domain).inc(calls)

    def committed(self, entries: Sequence[Entry], seconds: float) -> None:
        """Count a batch that is durable."""
        self._commit.observe(seconds)
        self._batch.observe(len(entries))
        alike: dict[_Alike, int] = {}  # most of a batch are, and to count is to look up three things
        for entry in entries:
            if isinstance(entry, DecisionRecord):
                of = entry.outcome, entry.reason, entry.grant_type, _trust_domain_of(entry.caller)
                kind = (*of, entry.audience, entry.scopes, bool(entry.token_id))
                alike[kind] = alike.get(kind, 0) + 1
        for kind, count in alike.items():
            self._decided(kind, count)

    def _decided(self, kind: _Alike, count: int) -> None:
        outcome, reason, grant_type, trust_domain, audience, scopes, has_token = kind
        decided = outcome, reason, grant_type, trust_domain
        counter = self._decisions_by.get(decided)
        if counter is None:
            name = Outcome(outcome).name.lower()
            counter = self._decisions_by[decided] = self._decisions.labels(name, *decided[1:])
        counter.inc(count)
        if has_token:
            issued = grant_type, self._risk_of(audience, scopes.split(" ")), trust_domain
            counter = self._tokens_by.get(issued)
            if counter is None:
                counter = self._tokens_by[issued] = self._tokens.labels(*issued)
            counter.inc(count)

    def refused(self) -> None:
        """Count a request that was refused because of the ledger."""
        self._refused.inc()

    def failed(self) -> None:
        """Count a commit that failed."""
        self._failed.inc()

    def intent_expired(self) -> None:
        """Count an intent that nobody redeemed in time."""
        self._expired_intents.inc()

    def policy_changed(self) -> None:
        """Count a policy that was put in force."""
        self._policy_changes.inc()

    def policy_refused(self) -> None:
        """Count a policy that was not put in force."""
        self._policy_failures.inc()

    def serve(self, listen: str, registry: CollectorRegistry | None = None) -> Callable[[], None]:
        """Answer `GET /metrics` from a thread; return what ends that.

        Args:
            listen: ``host:port``. Whoever reaches it can read: keep it on loopback or behind something that asks.
            registry: What is read; its own by default.

        Raises:
            MetricsListenerFault: The address cannot be used.
        """
        host, _, port = listen.rpartition(":")
        try:
            server, thread = start_http_server(int(port), host.strip("[]"), registry=registry or self.registry)
        except OSError as error:
            raise MetricsListenerFault(f"metrics: {listen} cannot be listened on: {error.strerror}") from None

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return stop
