"""A worker: an issuer that has the rest of itself, what there is one of, at the supervisor."""

from __future__ import annotations

import asyncio
import signal
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from issuer.app import App
from issuer.core.errors import Reason, TemporarilyUnavailable
from issuer.core.fact_text import fact_list_from_text, facts_text
from issuer.core.instants import microseconds, moment
from issuer.core.key_ring_text import ring_from_text
from issuer.ledger_keeping import Sharing
from issuer.metrics.summing import told_by
from issuer.settings_of_parts import rpc_settings
from issuer.signing.signing_keys import SigningKeys
from issuer.startup import key_folder
from issuer.workers import messages
from issuer.workers.channel import ChannelClosed
from issuer.workers.keys import KeysInUse, SharedKeys

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from structlog.typing import FilteringBoundLogger

    from issuer.config_sections import Config
    from issuer.core.facts import Fact
    from issuer.core.generations import Generation, PolicyStatus
    from issuer.facts.store import FactStore
    from issuer.ledger_keeping import LedgerKeeping
    from issuer.policy_files.directory import DirectoryPolicyBook, KeptGenerations
    from issuer.ports import FactSink, KeyAdmin, PolicyAdmin
    from issuer.rpc.settings import RpcSettings
    from issuer.startup import Publicity
    from issuer.watching import Look
    from issuer.workers.channel import Channel
    from issuer.workers.messages import Beginning

METRICS_SECONDS: Final = 1.0
"""So often a worker tells what it counted: what one that is killed had not told is not counted."""
CHANGE_SECONDS: Final = 120.0
"""For a change of policy in all workers; loading 100,000 grants takes 2 s of a core in each."""
FACTS_SECONDS: Final = 20.0
ORPHAN_GRACE: Final = timedelta(seconds=1)
_AWAY = "the supervisor does not answer; the issuer is stopping"


class WorkerApp(App):
    """One worker.

    Args:
        config: What the issuer was told.
        beginning: What it begins with.
        channel: To the supervisor.
        log: Where it reports.
    """

    def __init__(self, config: Config, beginning: Beginning, channel: Channel, log: FilteringBoundLogger) -> None:
        changes = {
            "metrics": config.metrics.model_copy(update={"listen": None}),
            "oauth_http": config.oauth_http.model_copy(update={"listen": beginning.oauth_listen}),
        }
        super().__init__(config.model_copy(update=changes), insecure_dev=beginning.insecure_dev, log=log)
        self._beginning = beginning
        self._channel = channel
        self.told = asyncio.get_running_loop().create_future()
        """What the supervisor can be told and asked; set once there is a policy to be changed."""

    def leave(self) -> None:
        """Stop, soon: the supervisor is gone, the next one needs the port, and nothing can be recorded meanwhile."""
        server = self._config.server.model_copy(update={"shutdown_grace": ORPHAN_GRACE})
        self._config = self._config.model_copy(update={"server": server})
        self._stop.set()

    def _signing_keys(self) -> SigningKeys:
        self._folder = key_folder(self._config)
        self._keys = SigningKeys(self._folder.hold(ring_from_text(self._beginning.keys)))
        return self._keys

    async def _key_admin(self, signer: SigningKeys, keeping: LedgerKeeping) -> KeyAdmin:  # noqa: ARG002 - see supervisor
        return SharedKeys(self._channel)

    def _begin_with(self) -> KeptGenerations | None:
        return self._beginning.kept()

    def _sharing(self) -> Sharing | None:
        beginning = self._beginning
        return Sharing(
            at=Path(beginning.ledger),
            copy_lock=Path(beginning.copy_lock),
            hangs=lambda: self._channel.tell(messages.LEDGER_HANGS),
            is_supervisor=False,
        )

    async def _begin_changes(
        self,
        policies: DirectoryPolicyBook,
        keeping: LedgerKeeping,
        store: FactStore,
        on_change: Callable[[], Awaitable[None]],
        seen: Look,  # noqa: ARG002 - the supervisor looks at the files
    ) -> None:
        for feeder, facts in messages.facts_heard(self._beginning.facts).items():
            store.replace(feeder, facts)
        self._policies = policies
        self._answers = Answers(policies, keeping, store, KeysInUse(self._folder, self._keys), on_change)
        self.told.set_result(self._answers)
        self._start(self._tell_metrics())

    def _policy_admin(self) -> PolicyAdmin:
        return SharedPolicies(self._policies, self._channel)

    def _fact_sink(self, store: FactStore) -> FactSink:
        return SharedFacts(store, self._channel)

    def _on_stop(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        for number in (signal.SIGINT, signal.SIGHUP):  # a terminal tells supervisor and worker alike
            loop.add_signal_handler(number, _look_away)

    def _rpc_settings(self) -> RpcSettings:
        server = self._config.server.model_copy(update={"listen": self._beginning.listen})
        return rpc_settings(server, shares_port=True)

    def _publicity(self, signer: SigningKeys, keeping: LedgerKeeping) -> Publicity:  # noqa: ARG002 - see supervisor
        return ToldPublicity(self._channel)

    def _tell_serving(self, port: int, http: Publicity) -> None:  # noqa: ARG002 - the supervisor knows both
        self._channel.tell(messages.LISTENING)

    def _tell_readiness(self, http: Publicity, fault: str | None) -> None:
        http.set_ready(ready=fault is None, reason=fault or "")
        self._log.info("worker_readiness", serving=fault is None, reason=fault)

    async def _tell_metrics(self) -> None:
        while not self._stop.is_set():
            self._channel.tell(messages.METRICS, told_by(self._telemetry.metrics.registry))
            await asyncio.sleep(METRICS_SECONDS)


class Answers:
    """What a worker does when the supervisor says so."""

    def __init__(
        self,
        policies: DirectoryPolicyBook,
        keeping: LedgerKeeping,
        store: FactStore,
        keys: KeysInUse,
        on_change: Callable[[], Awaitable[None]],
    ) -> None:
        self._policies = policies
        self._keeping = keeping
        self._store = store
        self._keys = keys
        self._on_change = on_change
        self._prepared: Generation | None = None

    async def answer(self, kind: str, argument: Any) -> object:  # noqa: ANN401 - as the channel brings it
        """Do it, and return what the supervisor waits for."""
        match kind:
            case messages.PREPARE:
                return await self._prepare(*argument)
            case messages.ADOPT:
                return await self._adopt(*argument)
            case messages.REFUSED:
                fault, now = argument
                self._policies.refuse(fault, moment(now))
            case messages.PUT_FACTS:
                text, now = argument
                self._store.put(fact_list_from_text(text), moment(now))
            case messages.USE_KEYS:
                return self._keys.use(argument)
            case messages.REOPEN if self._keeping.copy is not None:
                self._keeping.copy.reopen()
        return ""

    async def _prepare(self, files: bytes, loaded_at: int) -> str:
        self._prepared = await asyncio.to_thread(self._policies.read, files, moment(loaded_at))
        return self._prepared.policy.digest

    async def _adopt(self, digest: str, files: bytes, loaded_at: int, pinned: bool) -> str:  # noqa: FBT001 - a message
        if pinned:
            self._policies.roll_back(digest)
        else:
            if self._prepared is None or self._prepared.policy.digest != digest:  # it began in between
                await self._prepare(files, loaded_at)
            if self._prepared is not None:
                self._policies.put_in_force(self._prepared)
            self._prepared = None
        await self._on_change()
        return self._policies.current().digest


class SharedPolicies:
    """A :class:`~issuer.ports.PolicyAdmin` of all workers.

    Args:
        policies: This worker's.
        channel: To the supervisor, which changes those of all.
    """

    def __init__(self, policies: DirectoryPolicyBook, channel: Channel) -> None:
        self._policies = policies
        self._channel = channel

    def status(self) -> PolicyStatus:
        """Return which policy is in force, and which are kept: the same in all workers."""
        return self._policies.status()

    async def reload(self, *, actor: str) -> Generation:
        """Load the files, in every worker.

        Raises:
            AdminRefused: POLICY_INVALID.
            TemporarilyUnavailable: LEDGER_UNAVAILABLE.
        """
        return await self._changed(messages.RELOAD, actor)

    async def roll_back(self, digest: str, *, actor: str) -> Generation:
        """Put a kept policy in force and hold it, in every worker.

        Raises:
            AdminRefused: POLICY_UNKNOWN.
            TemporarilyUnavailable: LEDGER_UNAVAILABLE.
        """
        return await self._changed(messages.ROLL_BACK, digest, actor)

    async def _changed(self, kind: str, *argument: str) -> Generation:
        try:
            digest = await self._channel.ask(kind, argument, within=CHANGE_SECONDS)
        except (ChannelClosed, TimeoutError):
            raise TemporarilyUnavailable(Reason.LEDGER_UNAVAILABLE, _AWAY) from None
        return self._policies.kept(digest)


class SharedFacts:
    """A :class:`~issuer.ports.FactSink` of all workers.

    Args:
        store: This worker's.
        channel: To the supervisor, which tells all.
    """

    def __init__(self, store: FactStore, channel: Channel) -> None:
        self._store = store
        self._channel = channel

    async def put(self, facts: Sequence[Fact], now: datetime) -> None:
        """Take facts. They count in every worker when this returns.

        Raises:
            AdminRefused: TOO_MANY_FACTS.
            TemporarilyUnavailable: LEDGER_UNAVAILABLE; it is not known where they count.
        """
        try:
            await self._channel.ask(messages.TELL_FACTS, [facts_text(facts), microseconds(now)], within=FACTS_SECONDS)
        except (ChannelClosed, TimeoutError):
            raise TemporarilyUnavailable(Reason.LEDGER_UNAVAILABLE, _AWAY) from None

    def feeders(self) -> dict[str, int]:
        """Return how many facts each feeder has told."""
        return self._store.feeders()


class ToldPublicity:
    """A :class:`~issuer.startup.Publicity` at the supervisor."""

    url = ""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def start(self) -> None:
        """Do nothing: it is there."""

    def set_ready(self, *, ready: bool, reason: str = "") -> None:
        """Tell the supervisor."""
        self._channel.tell(messages.READINESS, [ready, reason])

    def stop(self) -> None:
        """Do nothing: others are still there."""


def _look_away() -> None:
    pass
