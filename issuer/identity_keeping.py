"""The issuer's own identity, and the trust bundles that it verifies callers by, as SPIRE tells them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent_client.workload_api import WorkloadApiError, WorkloadApiWatcher
from issuer.spire.identity import NoUsableSvid, SpireIdentity
from issuer.startup import StartupError

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from contextlib import AsyncExitStack

    from structlog.typing import FilteringBoundLogger

    from issuer.config_sections import SpireSection
    from issuer.ports import Clock
    from issuer.telemetry_keeping import TelemetryKeeping

DEVELOPMENT_SUFFIX = ".test"
"""Trust domains of the embedded development authority (RFC 6761 section 6.2: never a real name)."""


async def open_identity(
    config: SpireSection,
    *,
    insecure_dev: bool,
    clock: Clock,
    telemetry: TelemetryKeeping,
    log: FilteringBoundLogger,
    stop: asyncio.Event,
    stack: AsyncExitStack,
) -> SpireIdentity:
    """Wait until SPIRE has told them, for a bounded time.

    Args:
        config: Where SPIRE's agent is, and how long it is waited for.
        insecure_dev: Take the embedded development authority, which attests nobody, and nothing else.
        clock: The time.
        telemetry: Is told how old they are.
        log: Where it reports.
        stop: Ends the waiting.
        stack: Lets go of the agent.

    Raises:
        StartupError: They did not come, cannot be used, or are of the wrong kind of authority.
    """
    try:
        watcher = WorkloadApiWatcher(config.socket)
        watcher.start()
        stack.callback(watcher.close)
        log.info("waiting_for_spire", socket=watcher.socket, at_most=str(config.startup_timeout))
        await _unless_stopped(asyncio.to_thread(watcher.wait_for_first, config.startup_timeout.total_seconds()), stop)
        identity = SpireIdentity(
            watcher,
            spiffe_id=config.spiffe_id,
            federated=frozenset(config.federated_trust_domains),
            clock=clock,
            log=log,
        )
    except (WorkloadApiError, NoUsableSvid) as error:
        raise StartupError(str(error)) from error
    _check_kind(identity, insecure_dev=insecure_dev)
    telemetry.watch_identity(identity, is_connected=lambda: watcher.last_error is None)
    return identity


def _check_kind(identity: SpireIdentity, *, insecure_dev: bool) -> None:
    trust_domain = str(identity.own_id().trust_domain)
    if trust_domain.endswith(DEVELOPMENT_SUFFIX) and not insecure_dev:
        raise StartupError(
            f"the trust domain {trust_domain} is one of the development authority, which attests nobody; "
            "to try things out with it, start with --insecure-dev"
        )
    if insecure_dev and not trust_domain.endswith(DEVELOPMENT_SUFFIX):
        raise StartupError(f"--insecure-dev is only for trust domains under .test, not for {trust_domain}")


async def _unless_stopped(work: Coroutine[object, object, object], stop: asyncio.Event) -> None:
    """Wait for ``work``, or raise StartupError as soon as ``stop`` is set."""
    task = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        raise StartupError("told to stop while waiting for SPIRE")
    stopping.cancel()
    task.result()
