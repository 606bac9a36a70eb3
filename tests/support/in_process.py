"""An issuer in the test's own process, with everything but SPIRE and a listener: calls are handed to its parts."""

from __future__ import annotations

import io
import json
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from prometheus_client import generate_latest

from issuer.config_sections import Config
from issuer.core.errors import Reason, TemporarilyUnavailable
from issuer.core.spiffe_id import TrustDomain
from issuer.core.verdicts import CallerVerifier
from issuer.facts.authzen import AuthzenSettings, AuthzenSource
from issuer.facts.book import Facts
from issuer.facts.store import FactStore
from issuer.ledger_keeping import LedgerKeeping
from issuer.log import open_log
from issuer.oidc.issuers import OidcIssuers
from issuer.rpc.call import Call
from issuer.rpc.pipeline import Pipeline, RpcFailed
from issuer.rpc.together import ISSUE_TOKEN, Asking, Together
from issuer.rpc.turns import Turns
from issuer.services import Parts, services
from issuer.settings_of_parts import limits_of, roles_of
from issuer.signing.signing_keys import SigningKeys
from issuer.startup import begun_rotation, open_keys, policy_book
from issuer.system import RandomIds
from issuer.telemetry_keeping import TelemetryKeeping
from issuer_api.v1 import issuer_service_pb2 as pb
from issuer_testing.spire.authority import Authority, pem_bundle
from support.eventually import eventually_true
from support.ledgers import rows
from support.scraping import samples, value
from support.svid_vectors import FixedBundles

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from google.rpc.status_pb2 import Status

    from issuer.core.policy import Policy
    from issuer.observing import CallObserver, Metadata, Step, Trace
    from issuer.policy_files.directory import DirectoryPolicyBook
    from issuer.rpc.call import VerifiedCall
    from issuer.rpc.shedding import Sheds
    from support.scraping import Series

TRUST_DOMAIN = "dev.test"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
_COUNTED = frozenset(
    {
        "rpc_server_call_duration_seconds_count",
        "issuer_decisions_total",
        "issuer_tokens_issued_total",
        "issuer_refused_calls_total",
        "issuer_ledger_refused_requests_total",
    }
)


class HandClock:
    """The port ``Clock``, set by hand."""

    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> datetime:
        return self.time


class Policies:
    """The port ``PolicyBook``, which can be away."""

    def __init__(self, book: DirectoryPolicyBook) -> None:
        self._book = book
        self.is_away = False

    def current(self) -> Policy:
        if self.is_away:
            raise TemporarilyUnavailable(Reason.POLICY_NOT_LOADED, "no policy is loaded")
        return self._book.current()


class Keys(SigningKeys):
    """The signing keys, which can have a fault."""

    fault: Exception | None = None

    def active(self) -> Any:
        if self.fault is not None:
            raise self.fault
        return super().active()


class Steps:
    """The port ``CallObserver``: notes the steps of each call, and tells what is to be told of it."""

    def __init__(self, told: CallObserver) -> None:
        self._told = told
        self.seen: list[list[Step]] = []

    def began(self, _metadata: Metadata, _now: datetime) -> Trace:
        trace = _Noted()
        self.seen.append(trace.steps)
        return trace

    def ended(self, trace: Trace, method: str, code: str, seconds: float, fields: Mapping[str, object]) -> str | None:
        return self._told.ended(trace, method, code, seconds, fields)


class _Noted:
    def __init__(self) -> None:
        self.steps: list[Step] = []

    def at(self, step: Step) -> None:
        self.steps.append(step)


class InProcess:
    """An issuer, opened by :func:`in_process`; its attributes are its parts.

    Attributes:
        told: What ``together`` told, one list for each time.
    """

    def __init__(self, folder: Path, policy: str, sections: dict[str, dict[str, object]]) -> None:
        (folder / "policy.yaml").write_text(policy, encoding="utf-8")
        self.file = folder / "ledger.sqlite3"
        self.config = Config.model_validate(
            {
                "issuer": {"url": "https://issuer.dev.test"},
                "policy": {"path": str(folder / "policy.yaml")},
                "keys": {"file": str(folder / "key.pem")},
                **sections,
                "ledger": {"file": str(self.file)} | sections.get("ledger", {}),
            },
            context=folder,
        )
        self.clock = HandClock()
        self.ids = RandomIds()
        self.log_stream = io.StringIO()
        self.log = open_log("json", self.log_stream)
        self.telemetry = TelemetryKeeping(self.config.metrics, self.config.tracing, clock=self.clock, log=self.log)
        self.steps = Steps(self.telemetry)
        self.authority = Authority(TRUST_DOMAIN, not_before=NOW - HOUR, not_after=NOW + 100 * HOUR)
        self.bundles = FixedBundles.of(self.authority)
        allowed = frozenset({TrustDomain(TRUST_DOMAIN)})
        self.verifier = CallerVerifier(self.bundles, lambda: allowed)
        self.policies = Policies(policy_book(self.config, NOW))
        self.keys = Keys(open_keys(self.config, self.clock).held)
        self.keeping = LedgerKeeping(
            self.config.ledger,
            self.config.decision_log,
            issuer=self.config.issuer.url,
            signer=self.keys,
            clock=self.clock,
            ids=self.ids,
            log=self.log,
            on_change=lambda: None,
            observer=self.telemetry.metrics,
        )
        self.told: list[list[tuple[int, bytes | Status]]] = []
        self.facts = FactStore()
        self._sources = [
            AuthzenSource(
                AuthzenSettings(**{**dict(section), "types": frozenset(section.types)}),
                log=self.log,
                monotonic=time.monotonic,
            )
            for section in self.config.facts.authzen
        ]
        self.fact_book = Facts(self.facts, self._sources)
        self._leaves: dict[str, bytes] = {}
        self._asked = 0

    async def open(self) -> None:
        await self.keeping.open()
        roles = roles_of(self.config.admin)
        parts = Parts(
            config=self.config,
            clock=self.clock,
            ids=self.ids,
            policies=self.policies,
            facts=self.fact_book,
            signer=self.keys,
            keys=await begun_rotation(self.config, self.keys, self.keeping, clock=self.clock, log=self.log),
            keeping=self.keeping,
            jwt_authorities=lambda _: None,
            assertions=OidcIssuers(()),
            roles=roles,
            development=False,
        )
        self.services = services(parts)
        self.methods = self.services.methods
        self.turns = Turns(
            limits_of(self.config.server),
            most_calls=self.config.server.max_calls,
            refused=self.telemetry.metrics.calls_refused,
            log=self.log,
        )
        self.pipeline = Pipeline(
            clock=self.clock,
            ids=self.ids,
            verifier=self.verifier,
            roles=roles,
            turns=self.turns,
            log=self.log,
            observer=self.steps,
        )
        self.leave_to(None)

    def leave_to(self, transport: Sheds | None) -> None:
        """Have calls taken together anew, on a transport that refuses by itself, or on none."""
        self.together = Together(
            self.pipeline,
            self.methods,
            self.policies,
            self.fact_book,
            most_seconds=2.5,
            tell=self.told.append,
            sheds=transport,
        )

    async def close(self) -> None:
        self.keys.fault = None  # the last checkpoint is signed
        await self.keeping.close()
        for source in self._sources:
            await source.close()

    def leaf(self, caller: str, *, until: datetime = NOW + HOUR) -> bytes:
        """Return the certificate of a caller, the same object each time."""
        if caller not in self._leaves:
            issued = self.authority.issue(caller, not_before=NOW - HOUR, not_after=until)
            self._leaves[caller] = pem_bundle(issued.cert_chain[:1])
        return self._leaves[caller]

    def is_verified(self, *callers: str) -> None:
        """Let the issuer know these callers, as after a first call of each."""
        for caller in callers:
            self.verifier.verify(self.leaf(caller), None, self.clock.now())

    def asking(
        self,
        request: pb.IssueTokenRequest | bytes,
        caller: str,
        *,
        within: float | None = None,
        method: str = ISSUE_TOKEN,
    ) -> Asking:
        """Return a call."""
        self._asked += 1
        message = request if isinstance(request, bytes) else request.SerializeToString()
        return Asking(Call(method, "ipv4:192.0.2.7:4000", self.leaf(caller), None, within), message, self._asked)

    async def alone(self, asking: Asking) -> bytes | Status:
        """Answer a call as every transport does."""
        try:
            request = pb.IssueTokenRequest.FromString(asking.message)
            answer = await self.pipeline.answer(self.methods.issue_token, request, asking.call)
        except RpcFailed as failure:
            return failure.status
        return answer.SerializeToString()

    async def called(
        self, method: Callable[[Any, VerifiedCall], Awaitable[Any]], name: str, message: Any, by: str
    ) -> Any:
        """Call another method."""
        return await self.pipeline.answer(method, message, self.asking(b"", by, method=name).call)

    async def gathered(self, calls: Sequence[Asking]) -> list[bytes | Status]:
        """Let calls be taken together, all of them, and return what was told, in their order."""
        others = self.together.take(calls)
        assert others == []
        await eventually_true(lambda: calls_told(self, calls))
        answers = self.answers
        return [answers[each.id] for each in calls]

    @property
    def answers(self) -> dict[int, bytes | Status]:
        """What was told, by the calls' ids."""
        told = [each for many in self.told for each in many]
        answers = dict(told)
        assert len(answers) == len(told), "each call is answered once"
        return answers

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What the log holds of calls."""
        lines = [json.loads(line) for line in self.log_stream.getvalue().splitlines()]
        return [line for line in lines if line["event"] in {"rpc", "rpc_fault", "calls_refused"}]

    @property
    def decisions(self) -> list[tuple[object, ...]]:
        """What the ledger holds of decisions."""
        texts = "(SELECT value FROM text WHERE id = {})"
        columns = ["outcome", *map(texts.format, ("reason", "caller", "audience", "scopes_asked", "scopes"))]
        columns += ["time", "lifetime", "expires_at"]
        return rows(self.file, f"SELECT {', '.join(columns)} FROM decision ORDER BY seq")  # noqa: S608

    @property
    def metrics(self) -> dict[Series, float]:
        """What is counted of calls and decisions."""
        seen = samples(generate_latest(self.telemetry.metrics.registry).decode())
        return {series: number for series, number in seen.items() if series[0] in _COUNTED}

    @property
    def commits(self) -> int:
        """How many commits there were."""
        seen = samples(generate_latest(self.telemetry.metrics.registry).decode())
        return int(value(seen, "issuer_ledger_commit_duration_seconds_count"))


def calls_told(issuer: InProcess, calls: Sequence[Asking]) -> bool:
    """Return whether each of the calls was told its answer."""
    return {each.id for each in calls} <= issuer.answers.keys()


@asynccontextmanager
async def in_process(folder: Path, policy: str, **sections: dict[str, object]) -> AsyncIterator[InProcess]:
    """Open an issuer in a folder, with these sections of its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    issuer = InProcess(folder, policy, sections)
    try:
        await issuer.open()
        yield issuer
    finally:
        await issuer.close()
