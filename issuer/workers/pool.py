"""The workers of an issuer: kept alive, told the same, asked as one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from issuer.core.instants import microseconds
from issuer.core.key_ring_text import ring_text
from issuer.core.worker_pool import LOOP_FAILURES, Report, Restarts, pool_readiness, strays
from issuer.startup import StartupError
from issuer.waiting import first_of
from issuer.workers import messages
from issuer.workers.process import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime, timedelta

    from structlog.typing import FilteringBoundLogger

    from issuer.core.generations import Generation
    from issuer.core.key_ring import KeyRing

PREPARE_SECONDS: Final = 60.0
"""To load a policy of any size on a busy machine: 100,000 grants take 2 s of a core."""
ADOPT_SECONDS: Final = 20.0
"""To put it in force, and to read the folder of facts again by it."""
FACTS_SECONDS: Final = 5.0
KEYS_SECONDS: Final = 5.0
START_SECONDS: Final = 120.0
"""Of a worker that replaces one while workers are changed: longer, and the others are left as they are."""
LEAVE_SECONDS: Final = 5.0
"""For a worker to leave after its calls were given up."""


class Pool:
    """A fixed number of workers, each replaced when it ends.

    They are :class:`~issuer.policy_rollout.Followers` of policy, and :class:`~issuer.key_rotation.KeyFollowers`.

    Args:
        size: How many.
        answer: Answers what a worker asks.
        on_change: Runs when one began or ceased to serve.
        on_end: Is told of each that has ended.
        log: Is told of ends and starts.
    """

    def __init__(
        self,
        size: int,
        *,
        answer: Callable[[WorkerProcess, str, Any], Awaitable[object]],
        on_change: Callable[[], None],
        on_end: Callable[[WorkerProcess], None],
        log: FilteringBoundLogger,
    ) -> None:
        self.restarts = 0
        self._size = size
        self._answer = answer
        self._on_change = on_change
        self._on_end = on_end
        self._log = log
        self._living: dict[int, WorkerProcess] = {}
        self._next: dict[int, WorkerProcess] = {}
        self._following: set[asyncio.Task[None]] = set()
        self._keeping: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._started = False
        self._rolling = asyncio.Lock()

    @property
    def living(self) -> list[WorkerProcess]:
        """Those that have not ended."""
        return [worker for worker in self._living.values() if not worker.ended.is_set()]

    @property
    def readiness(self) -> Report:
        """Whether the issuer serves, and why not."""
        return pool_readiness([worker.report for worker in self.living])

    async def start(self, stop: asyncio.Event) -> None:
        """Start all; return when each accepts calls, or ``stop`` is set.

        Raises:
            StartupError: One of them cannot start.
        """
        workers = [await self._spawn(place) for place in range(1, self._size + 1)]
        for worker in workers:
            await first_of(worker.listens, worker.ended, stop, within=None)
            if not worker.listens.is_set() and not stop.is_set():
                raise StartupError(worker.fault or f"a worker ended with exit code {worker.code}")
        self._started = True
        self._keeping = [asyncio.create_task(self._keep(worker)) for worker in workers]

    async def stop(self, grace: timedelta) -> None:
        """Let all of them end their calls and leave."""
        self._stopping.set()
        living = self.living
        for worker in living:
            worker.stop()
        ends = [asyncio.create_task(worker.ended.wait()) for worker in living]
        if ends:
            await asyncio.wait(ends, timeout=grace.total_seconds() + LEAVE_SECONDS)
        for worker in living:
            await worker.kill()
        await asyncio.gather(*self._keeping, *self._following, *ends)

    async def roll(self) -> None:
        """Put a new worker into each place, one place after the other; the old one leaves when the new one serves."""
        async with self._rolling:
            for old in self.living:
                fresh = await self._spawn(old.place)
                await first_of(fresh.listens, fresh.ended, self._stopping, within=START_SECONDS)
                if not fresh.listens.is_set() or self._stopping.is_set() or old.ended.is_set():
                    self._log.error(
                        "workers_not_rolled", worker=old.place, fault=fresh.fault or "did not start in time"
                    )
                    fresh.stop()
                    return
                self._next[old.place] = fresh
                old.stop()
                await first_of(old.ended, self._stopping, within=None)
                self._log.info("worker_rolled", worker=old.place, pid=fresh.pid)

    async def everywhere(self, kind: str, argument: object, within: float) -> dict[int, Any]:
        """Ask all that follow; return their answers by process id, ``None`` for none."""
        workers = [worker for worker in self.living if worker.follows]
        answers = await asyncio.gather(*(worker.ask(kind, argument, within) for worker in workers))
        return {worker.pid: answer for worker, answer in zip(workers, answers, strict=True)}

    def tell(self, kind: str, argument: object = None) -> None:
        """Tell all that follow."""
        for worker in self.living:
            if worker.follows:
                worker.tell(kind, argument)

    async def end_strays(self, answers: dict[int, Any], wanted: str, why: str) -> None:
        """End those that did not answer as they must: what is said of all workers holds of those that live."""
        for pid in strays(answers, wanted):
            if (worker := self._living.get(pid)) is not None and not worker.was_asked:
                self._log.error("worker_strays", worker=worker.place, pid=pid, what=why)
                await worker.kill()

    async def prepare(self, generation: Generation) -> None:
        """Let them load a policy. One that cannot is ended."""
        argument = [generation.files, microseconds(generation.loaded_at)]
        answers = await self.everywhere(messages.PREPARE, argument, PREPARE_SECONDS)
        await self.end_strays(answers, generation.policy.digest, "did not load the policy")

    async def adopt(self, generation: Generation, *, pinned: bool) -> None:
        """Return when each decides by this policy. One that does not is ended."""
        digest = generation.policy.digest
        argument = [digest, generation.files, microseconds(generation.loaded_at), pinned]
        answers = await self.everywhere(messages.ADOPT, argument, ADOPT_SECONDS)
        await self.end_strays(answers, digest, "did not follow the policy")

    async def follow_keys(self, ring: KeyRing) -> None:
        """Return when each signs and verifies by these keys. One that does not is ended."""
        wanted = ring_text(ring)
        answers = await self.everywhere(messages.USE_KEYS, wanted, KEYS_SECONDS)
        await self.end_strays(answers, wanted, "did not follow the keys")

    def refused(self, fault: str, now: datetime) -> None:
        """Tell them why a policy was not put in force."""
        self.tell(messages.REFUSED, [fault, microseconds(now)])

    async def _spawn(self, place: int) -> WorkerProcess:
        worker, running = await WorkerProcess.start(place, self._answer)
        self._living[worker.pid] = worker
        self._following.add(running)
        running.add_done_callback(lambda _: self._has_ended(worker, running))
        return worker

    def _has_ended(self, worker: WorkerProcess, running: asyncio.Task[None]) -> None:
        self._following.discard(running)
        self._living.pop(worker.pid, None)
        self._on_end(worker)
        self._on_change()

    async def _keep(self, worker: WorkerProcess) -> None:
        """Keep a place filled."""
        place, restarts = worker.place, Restarts()
        while True:
            await worker.ended.wait()
            if self._stopping.is_set():
                return
            if (rolled := self._next.pop(place, None)) is not None:
                worker = rolled
                continue
            pause = restarts.pause_after(worker.age, asked=worker.was_asked)
            self._tell_of_end(worker, restarts, pause)
            await first_of(self._stopping, within=pause)
            if self._stopping.is_set():
                return
            self.restarts += 1
            worker = await self._spawn(place)

    def _tell_of_end(self, worker: WorkerProcess, restarts: Restarts, pause: float) -> None:
        told = {"worker": worker.place, "pid": worker.pid, "exit_code": worker.code, "fault": worker.fault or None}
        self._log.error("worker_ended", **told, next_start_in_seconds=pause, short_lives=restarts.failures)
        if restarts.is_loop:
            self._log.critical(
                "worker_crash_loop",
                worker=worker.place,
                short_lives=restarts.failures,
                left=len(self.living),
                what=f"a worker died {LOOP_FAILURES} times or more soon after its start; see the lines `worker_ended`",
            )
