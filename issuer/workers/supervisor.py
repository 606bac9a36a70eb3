"""An issuer of several workers: what there is one of, and who keeps the workers.

The supervisor answers no caller. It holds the port, the process of an SQLite ledger, the public HTTP process, the
listener for metrics and the truth about policy and told facts; it signs the ledger's checkpoints, prunes, and tells the
webhook. What a worker loses when it is killed is the calls that it was answering.
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from issuer.core.fact_text import fact_list_from_text
from issuer.core.instants import moment
from issuer.core.key_ring_text import ring_text
from issuer.core.worker_pool import Report
from issuer.facts.store import FactStore
from issuer.garbage_collection import collect_now_and_then, keep
from issuer.ledger.errors import LedgerFault
from issuer.ledger_keeping import LedgerKeeping, Sharing
from issuer.policy_rollout import PolicyRollout
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
from issuer.waiting import first_of
from issuer.watching import look, watch
from issuer.workers import messages
from issuer.workers.ledger_process import LedgerProcess
from issuer.workers.pool import FACTS_SECONDS, Pool
from issuer.workers.port import ReservedPort
from issuer.workers.telemetry import PoolTelemetry

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from issuer.config_sections import Config
    from issuer.core.key_ring import KeyRing
    from issuer.ledger.json_lines import JsonLines
    from issuer.policy_files.directory import DirectoryPolicyBook
    from issuer.public_http.process import PublicHttpProcess
    from issuer.signing.signing_keys import SigningKeys
    from issuer.workers.process import WorkerProcess


class Supervisor:
    """A whole issuer, in several processes.

    Args:
        config: What it was told.
        source: The path of the configuration file, and its text.
        insecure_dev: Serve the embedded development authority, which attests nobody, and nothing else.
        workers: How many answer calls.
        log: Where it reports.
    """

    def __init__(
        self, config: Config, source: tuple[Path, str], *, insecure_dev: bool, workers: int, log: FilteringBoundLogger
    ) -> None:
        self._config = config
        self._source = source
        self._insecure_dev = insecure_dev
        self._log = log
        self._clock = SystemClock()
        self._facts = FactStore()
        self._oauth_port: ReservedPort | None = None
        self._telling = asyncio.Lock()  # all workers take facts in one order
        self._stop = asyncio.Event()
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._telemetry = PoolTelemetry(config.metrics)
        self._pool = Pool(
            workers, answer=self._answer, on_change=self._changed.set, on_end=self._telemetry.ended, log=log
        )

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        1. Load the policy and the signing key, take the port, open the ledger: what is wrong with them is told at once.
        2. Start the workers, and wait until each accepts calls.
        3. Report whether one of them serves, whenever that changes, until told to stop.
        4. Let the workers end their calls, then sign how far the ledger has come, and leave.

        Raises:
            StartupError: From steps 1 and 2.
            Exception: The parts' own start-up errors, each with a message for a person.
        """
        async with AsyncExitStack() as stack:
            seen = look(self._config.policy.path)
            self._policies = policies = policy_book(self._config, self._clock.now())
            self._keys = signer = open_keys(self._config, self._clock)
            self._log.info("policy_loaded", digest=policies.current().digest, path=str(self._config.policy.path))
            self._telemetry.open(self._pool, stack)
            self._take_ports(stack)
            keeping = await self._open_ledger(signer, stack)
            self._rollout = PolicyRollout(
                policies,
                clock=self._clock,
                ledger=keeping.ledger,
                on_change=_nothing,
                log=self._log,
                observer=self._telemetry.metrics,
                followers=self._pool,
            )
            await begun(self._rollout)
            self._rotation = await begun_rotation(
                self._config, signer, keeping, clock=self._clock, log=self._log, followers=self._pool
            )
            self._on_signals(keeping.copy)
            http = public_http(self._config, signer, self._log)
            await asyncio.to_thread(http.start)
            stack.callback(http.stop)
            lists = status_publisher(
                self._config, keeping, signer=signer, clock=self._clock, show=http.show_list, log=self._log
            )
            self._start(lists.run())
            await self._start_workers(stack)
            self._start(self._rotation.run(self._stop))
            self._follow(policies, keeping, seen)
            keep()
            self._start(collect_now_and_then(self._stop))
            self._log.info("serving", grpc=self._port.address, http=http.url, workers=len(self._pool.living))
            await self._report_readiness(http)
            self._log.info("stopping", grace_seconds=self._config.server.shutdown_grace.total_seconds())
            http.set_ready(ready=False, reason="the issuer is stopping")
        self._log.info("stopped")
        check_keys(self._rotation)

    def _take_ports(self, stack: AsyncExitStack) -> None:
        self._port = stack.enter_context(ReservedPort(self._config.server.listen))
        if (oauth := self._config.oauth_http.listen) is not None:
            self._oauth_port = stack.enter_context(ReservedPort(oauth))

    async def _start_workers(self, stack: AsyncExitStack) -> None:
        stack.push_async_callback(self._pool.stop, self._config.server.shutdown_grace)
        await self._pool.start(self._stop)
        if self._stop.is_set():
            raise StartupError("told to stop while the workers started")

    async def _open_ledger(self, signer: SigningKeys, stack: AsyncExitStack) -> LedgerKeeping:
        self._process = LedgerProcess(in_file=self._config.ledger.file is not None, log=self._log)
        try:
            await stack.enter_async_context(self._process)
            keeping = LedgerKeeping(
                self._config.ledger,
                self._config.decision_log,
                issuer=self._config.issuer.url,
                signer=signer,
                clock=self._clock,
                ids=RandomIds(),
                log=self._log,
                on_change=self._changed.set,
                observer=self._telemetry.metrics,
                sharing=Sharing(
                    at=self._process.socket,
                    copy_lock=self._process.copy_lock,
                    hangs=self._process.hangs,
                    is_supervisor=True,
                ),
            )
            await keeping.open()
        except (LedgerFault, OSError) as error:
            raise StartupError(f"the ledger cannot be opened: {error}") from error
        stack.push_async_callback(keeping.close)
        signer.watch(lambda: keeping.revocations.signs_by(signer.key_id))
        return keeping

    def _on_signals(self, copy: JsonLines | None) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._hang_up(copy))
        loop.add_signal_handler(signal.SIGUSR2, lambda: self._start(self._pool.roll()))

    def _hang_up(self, copy: JsonLines | None) -> None:
        """Load the policy again, in all workers at once, and go on in the file that has the copy's name now."""
        if copy is not None:
            copy.reopen()
            self._pool.tell(messages.REOPEN)
        self._start(told_elsewhere(self._rollout.reload(actor="")))

    def _follow(self, policies: DirectoryPolicyBook, keeping: LedgerKeeping, seen: frozenset[Any]) -> None:
        if self._config.policy.watch:
            self._start(watch(policies.path, self._rollout.files_changed, self._stop, seen=seen))
        if (webhook := webhook_of(self._config, keeping, self._clock, self._log)) is not None:
            self._start(webhook.run())

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)

    async def _report_readiness(self, http: PublicHttpProcess) -> None:
        """Follow the workers. Returns when told to stop."""
        last: Report | None = None
        while not self._stop.is_set():
            self._changed.clear()
            now = self._pool.readiness
            if now != last:
                last = now
                http.set_ready(ready=now.serving, reason=now.reason)
                self._log.info("readiness", serving=now.serving, reason=now.reason or None)
            await first_of(self._stop, self._changed, within=None)

    async def _answer(self, worker: WorkerProcess, kind: str, argument: Any) -> object:  # noqa: ANN401 - a message
        """Answer what a worker asks, and take what it tells."""
        match kind:
            case messages.BEGIN:
                return self._begin(worker)
            case messages.FAILED:
                worker.fault = argument
            case messages.LISTENING:
                worker.listens.set()
            case messages.READINESS:
                worker.report = Report(*argument)
                self._changed.set()
            case messages.METRICS:
                self._telemetry.take(worker, argument)
            case messages.LEDGER_HANGS:
                self._process.hangs()
            case _:
                return await self._change(kind, argument)
        return None

    async def _change(self, kind: str, argument: Any) -> object:  # noqa: ANN401 - a message
        """Change what is the same in all workers; the answer comes when it is."""
        match kind:
            case messages.RELOAD:
                return (await self._rollout.reload(actor=argument[0])).policy.digest
            case messages.ROLL_BACK:
                digest, actor = argument
                return (await self._rollout.roll_back(digest, actor=actor)).policy.digest
            case messages.TELL_FACTS:
                await self._tell_facts(*argument)
            case messages.CHANGE_KEYS:
                return ring_text(await self._change_keys(*argument))
        return None

    def _begin(self, worker: WorkerProcess) -> messages.Beginning:
        """Tell a worker what there is; from now on it is told of changes, and none comes between the two."""
        worker.follows = True
        path, text = self._source
        kept = self._policies.to_begin_with()
        return messages.Beginning(
            config=str(path),
            text=text,
            insecure_dev=self._insecure_dev,
            listen=self._port.address,
            oauth_listen=self._oauth_port.address if self._oauth_port else None,
            ledger=str(self._process.socket),
            copy_lock=str(self._process.copy_lock),
            policies=messages.policies_told(kept),
            digest=kept.digest,
            pinned=kept.pinned,
            facts=messages.facts_told(self._facts.told()),
            keys=ring_text(self._keys.ring),
        )

    async def _change_keys(self, how: str, key_id: str, force: bool, actor: str) -> KeyRing:  # noqa: FBT001 - a message
        match how:
            case "prepare":
                return await self._rotation.prepare(actor=actor)
            case "activate":
                return await self._rotation.activate(key_id, force=force, actor=actor)
            case "remove":
                return await self._rotation.remove(key_id, force=force, actor=actor)
        return await self._rotation.listed()

    async def _tell_facts(self, text: str, now: int) -> None:
        """Let facts count in every worker; in one that does not answer they cannot be known to, so it is ended."""
        async with self._telling:
            self._facts.put(fact_list_from_text(text), moment(now))
            answers = await self._pool.everywhere(messages.PUT_FACTS, [text, now], FACTS_SECONDS)
            await self._pool.end_strays(answers, "", "did not take facts")


async def _nothing() -> None:
    pass
