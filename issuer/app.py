"""The one file that chooses concrete parts and puts them together; start-up and shutdown in order."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

from issuer.approval_webhook import WebhookNotConfigured
from issuer.core.errors import TemporarilyUnavailable
from issuer.core.policy_faults import PolicyInvalid
from issuer.core.verdicts import CallerVerifier
from issuer.fact_keeping import FactKeeping
from issuer.facts.store import ToldFacts
from issuer.garbage_collection import collect_now_and_then
from issuer.identity_keeping import open_identity
from issuer.intent_expiry import IntentExpiry
from issuer.ledger.errors import LedgerFault
from issuer.ledger_keeping import LedgerKeeping
from issuer.oauth_http_keeping import open_oauth_http
from issuer.oidc.issuers import OidcIssuers, OidcNotConfigured
from issuer.policy_rollout import PolicyRollout
from issuer.public_http.settings import PublicHttpError
from issuer.rpc.admin_methods import AdminMethods
from issuer.rpc.listener import AddressInUse, CannotListen
from issuer.rpc.pipeline import Pipeline
from issuer.rpc.server import RpcServer
from issuer.rpc.together import Together
from issuer.rpc.turns import Turns
from issuer.services import Parts, access_watch, services
from issuer.settings_of_parts import limits_of, oidc_settings, roles_of, rpc_settings
from issuer.signing.key_file import KeyFileError
from issuer.spire.jwt_authorities import heard_authorities
from issuer.startup import (
    StartupError,
    begun,
    begun_rotation,
    check_keys,
    open_keys,
    policy_book,
    public_http,
    told_elsewhere,
    webhook_of,
)
from issuer.status_keeping import status_publisher
from issuer.system import RandomIds, SystemClock
from issuer.telemetry_keeping import TELEMETRY_FAULTS, TelemetryKeeping
from issuer.transports import chosen_transport
from issuer.waiting import first_of, threadsafe
from issuer.watching import look, watch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from structlog.typing import FilteringBoundLogger

    from issuer.config_sections import Config
    from issuer.facts.store import FactStore
    from issuer.key_rotation import KeyRotation
    from issuer.ledger.group_commit import GroupCommit
    from issuer.ledger.json_lines import JsonLines
    from issuer.ledger_keeping import Sharing
    from issuer.policy_files.directory import DirectoryPolicyBook, KeptGenerations
    from issuer.ports import FactSink, KeyAdmin, PolicyAdmin
    from issuer.rpc.services import Services
    from issuer.rpc.settings import RpcSettings
    from issuer.rpc.together import MakeTogether
    from issuer.signing.signing_keys import SigningKeys
    from issuer.spire.identity import SpireIdentity
    from issuer.startup import Publicity
    from issuer.status_publishing import StatusPublisher
    from issuer.watching import Look

LEDGER_AWAY = "the ledger, or its required copy, cannot be written"


STARTUP_FAULTS = (
    StartupError,
    PolicyInvalid,
    KeyFileError,
    PublicHttpError,
    WebhookNotConfigured,
    OidcNotConfigured,
    AddressInUse,
    CannotListen,
    *TELEMETRY_FAULTS,
)
"""What :meth:`App.run` raises when the issuer cannot start; each has a message for a person."""


class App:
    """A whole issuer.

    Args:
        config: What it was told.
        insecure_dev: Serve the embedded development authority, which attests nobody, and nothing else.
        log: Where it reports.
    """

    def __init__(self, config: Config, *, insecure_dev: bool, log: FilteringBoundLogger) -> None:
        self._config = config
        self._insecure_dev = insecure_dev
        self._log = log
        self._clock = SystemClock()
        self._ids = RandomIds()
        self._telemetry = TelemetryKeeping(config.metrics, config.tracing, clock=self._clock, log=log)
        self._stop = asyncio.Event()
        self._readiness_changed = asyncio.Event()
        self._access_changed = asyncio.Event()
        self._lists: StatusPublisher | None = None
        self._rotation: KeyRotation | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        1. Load the policy and the signing key: what is wrong with them is told before anything is waited for.
        2. Wait for SPIRE, for a bounded time.
        3. Take the gRPC address, start the public HTTP process, accept calls.
        4. Report whether the issuer can serve, whenever that changes, until told to stop.
        5. Say NOT_SERVING, let calls in flight end, leave.

        Raises:
            StartupError: From steps 1 to 3.
            Exception: The parts' own start-up errors (``PolicyInvalid``, ``KeyFileError``, ``AddressInUse`` and so on),
                each with a message for a person.
        """
        async with AsyncExitStack() as stack:
            seen = look(self._config.policy.path)
            policies = policy_book(self._config, self._clock.now(), begin_with=self._begin_with())
            signer = self._signing_keys()
            self._log.info("policy_loaded", digest=policies.current().digest, path=str(self._config.policy.path))
            self._telemetry.open(policies, signer, stack)
            facts = self._fact_keeping(policies)
            keeping = await self._open_ledger(signer, stack)
            self._on_stop()
            await self._begin_changes(policies, keeping, facts.store, lambda: self._policy_changed(facts), seen)
            keys = await self._key_admin(signer, keeping)
            identity = await self._identity(stack)
            parts = Parts(
                config=self._config,
                clock=self._clock,
                ids=self._ids,
                policies=policies,
                facts=facts.book(stack),
                signer=signer,
                keys=keys,
                keeping=keeping,
                jwt_authorities=heard_authorities(self._config, identity.allowed_trust_domains, stack, self._log),
                assertions=self._oidc(stack),
                roles=roles_of(self._config.admin),
                development=self._insecure_dev,
            )
            await self._serve(parts, facts, identity, stack)
        self._log.info("stopped")
        check_keys(self._rotation)

    async def _serve(self, parts: Parts, facts: FactKeeping, identity: SpireIdentity, stack: AsyncExitStack) -> None:
        """Do steps 3 to 5."""
        made, pipeline = services(parts), self._pipeline(parts, identity)
        together = self._together(parts, made, pipeline)
        listener = chosen_transport(
            self._config.server.transport,
            self._rpc_settings(),
            pipeline,
            together,
            identity=identity,
            log=self._log,
        )
        admin = AdminMethods(
            policies=self._policy_admin(),
            facts=self._fact_sink(facts.store),
            roles=parts.roles,
            ledger=parts.keeping.ledger,
        )
        server = RpcServer(listener, made, admin=admin, pipeline=pipeline, together=together, log=self._log)
        port = server.bind()
        http = self._publicity(parts.signer, parts.keeping)
        await asyncio.to_thread(http.start)
        stack.callback(http.stop)
        if self._lists is not None:
            self._start(self._lists.run())
        await server.health.set_serving(serving=False)
        await server.start()
        await open_oauth_http(
            self._config,
            self._rpc_settings(),
            made.methods,
            pipeline,
            identity=identity,
            log=self._log,
            stack=stack,
        )
        self._look_after(parts, facts)
        self._tell_serving(port, http)
        await self._report_readiness(server, http, identity, parts.keeping.ledger)
        self._log.info("stopping", grace_seconds=self._config.server.shutdown_grace.total_seconds())
        http.set_ready(ready=False, reason="the issuer is stopping")
        await server.stop(self._config.server.shutdown_grace)

    def _look_after(self, parts: Parts, facts: FactKeeping) -> None:
        """Start what goes on beside the calls until told to stop."""
        if self._rotation is not None:
            self._start(self._rotation.run(self._stop))
        self._start(facts.follow(self._stop))
        self._start(access_watch(parts, self._access_changed, self._log).run(self._stop))
        self._start(self._intent_expiry(parts.keeping).run(self._stop))
        self._start(collect_now_and_then(self._stop))

    def _signing_keys(self) -> SigningKeys:
        return open_keys(self._config, self._clock)

    async def _key_admin(self, signer: SigningKeys, keeping: LedgerKeeping) -> KeyAdmin:
        """Tell the ledger which key signs, and return who changes that."""
        self._rotation = await begun_rotation(self._config, signer, keeping, clock=self._clock, log=self._log)
        return self._rotation

    def _begin_with(self) -> KeptGenerations | None:
        """Return the policies to begin with; ``None`` for those of the files."""
        return None

    async def _begin_changes(
        self,
        policies: DirectoryPolicyBook,
        keeping: LedgerKeeping,
        store: FactStore,  # noqa: ARG002 - for workers, which are told facts
        on_change: Callable[[], Awaitable[None]],
        seen: Look,
    ) -> None:
        """Tell the ledger of the first policy, and follow what changes it."""
        self._rollout = PolicyRollout(
            policies,
            clock=self._clock,
            ledger=keeping.ledger,
            on_change=on_change,
            log=self._log,
            observer=self._telemetry.metrics,
        )
        await begun(self._rollout)
        rollout, copy = self._rollout, keeping.copy
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, lambda: self._hang_up(rollout, copy))
        if self._config.policy.watch:
            self._start(watch(policies.path, rollout.files_changed, self._stop, seen=seen))
        if (webhook := webhook_of(self._config, keeping, self._clock, self._log)) is not None:
            self._start(webhook.run())

    def _policy_admin(self) -> PolicyAdmin:
        return self._rollout

    def _fact_sink(self, store: FactStore) -> FactSink:
        return ToldFacts(store)

    def _sharing(self) -> Sharing | None:
        return None

    def _on_stop(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    def _hang_up(self, rollout: PolicyRollout, copy: JsonLines | None) -> None:
        """Load the policy again, and go on in the file that has the copy's name now."""
        if copy is not None:
            copy.reopen()
        self._start(told_elsewhere(rollout.reload(actor="")))

    def _tell_serving(self, port: int, http: Publicity) -> None:
        self._log.info("serving", grpc=f"{_host(self._config.server.listen)}:{port}", http=http.url)

    def _tell_readiness(self, http: Publicity, fault: str | None) -> None:
        http.set_ready(ready=fault is None, reason=fault or "")
        self._log.info("readiness", serving=fault is None, reason=fault)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)

    def _intent_expiry(self, keeping: LedgerKeeping) -> IntentExpiry:
        intents, metrics = keeping.intents, self._telemetry.metrics
        self._telemetry.watch_intents(intents)
        return IntentExpiry(
            intents=intents, ledger=keeping.ledger, clock=self._clock, log=self._log, told=metrics.intent_expired
        )

    def _fact_keeping(self, policies: DirectoryPolicyBook) -> FactKeeping:
        return FactKeeping(
            self._config.facts,
            policies,
            clock=self._clock,
            telemetry=self._telemetry,
            log=self._log,
            on_change=threadsafe(self._access_changed.set),
        )

    async def _policy_changed(self, facts: FactKeeping) -> None:
        self._access_changed.set()
        await facts.read_again()  # the types of fact may be others

    def _oidc(self, stack: AsyncExitStack) -> OidcIssuers:
        issuers = OidcIssuers(oidc_settings(self._config.oidc))
        stack.callback(issuers.close)
        return issuers

    async def _identity(self, stack: AsyncExitStack) -> SpireIdentity:
        return await open_identity(
            self._config.spire,
            insecure_dev=self._insecure_dev,
            clock=self._clock,
            telemetry=self._telemetry,
            log=self._log,
            stop=self._stop,
            stack=stack,
        )

    async def _open_ledger(self, signer: SigningKeys, stack: AsyncExitStack) -> LedgerKeeping:
        try:
            keeping = LedgerKeeping(
                self._config.ledger,
                self._config.decision_log,
                issuer=self._config.issuer.url,
                signer=signer,
                clock=self._clock,
                ids=self._ids,
                log=self._log,
                on_change=self._readiness_changed.set,
                observer=self._telemetry.metrics,
                sharing=self._sharing(),
            )
            await keeping.open()
        except (LedgerFault, OSError) as error:
            raise StartupError(f"the ledger cannot be opened: {error}") from error
        stack.push_async_callback(keeping.close)
        signer.watch(lambda: keeping.revocations.signs_by(signer.key_id))
        self._telemetry.watch_ledger(keeping.ledger, keeping.copy)
        return keeping

    def _pipeline(self, parts: Parts, identity: SpireIdentity) -> Pipeline:
        return Pipeline(
            clock=self._clock,
            ids=self._ids,
            verifier=CallerVerifier(identity, allowed=identity.allowed_trust_domains),
            roles=parts.roles,
            turns=self._turns(),
            log=self._log,
            observer=self._telemetry,
        )

    def _together(self, parts: Parts, made: Services, pipeline: Pipeline) -> MakeTogether:
        most = (self._config.server.max_wait + self._config.ledger.max_wait).total_seconds()
        return partial(Together, pipeline, made.methods, parts.policies, parts.facts, most)

    def _turns(self) -> Turns:
        limits, most = limits_of(self._config.server), self._config.server.max_calls
        turns = Turns(limits, most_calls=most, refused=self._telemetry.metrics.calls_refused, log=self._log)
        self._telemetry.watch_turns(lambda: turns.running, lambda: turns.waiting)
        return turns

    def _rpc_settings(self) -> RpcSettings:
        return rpc_settings(self._config.server)

    def _publicity(self, signer: SigningKeys, keeping: LedgerKeeping) -> Publicity:
        http = public_http(self._config, signer, self._log)
        self._lists = status_publisher(
            self._config, keeping, signer=signer, clock=self._clock, show=http.show_list, log=self._log
        )
        return http

    async def _report_readiness(
        self, server: RpcServer, http: Publicity, identity: SpireIdentity, ledger: GroupCommit
    ) -> None:
        """Follow the issuer's own SVID and the ledger: serving while both are good. Returns when told to stop."""
        changed = self._readiness_changed
        identity.subscribe(threadsafe(changed.set))
        self._telemetry.watch_readiness(identity, ledger)
        was_serving: bool | None = None
        while not self._stop.is_set():
            changed.clear()
            fault = _fault(identity) or (LEDGER_AWAY if ledger.fault else None)
            if was_serving is not (fault is None):
                was_serving = fault is None
                await server.health.set_serving(serving=was_serving)
                self._tell_readiness(http, fault)
            left = (identity.svid_expires_at() - self._clock.now()).total_seconds()
            # Past the end of the SVID only an update, or the signal to stop, can change anything.
            await first_of(self._stop, changed, within=left + 0.01 if fault is None else None)


def _fault(identity: SpireIdentity) -> str | None:
    try:
        identity.own_id()
    except TemporarilyUnavailable as error:
        return error.message
    return None


def _host(listen: str) -> str:
    return listen.rpartition(":")[0]
