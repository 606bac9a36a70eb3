"""``issuer serve``."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from issuer.cli.failure import ExitCode, fail
from issuer.config import ConfigError, parse_config, read_config
from issuer.core.worker_pool import MAX_WORKERS, worker_count
from issuer.garbage_collection import look_seldom
from issuer.log import StandardLogging, open_log

if TYPE_CHECKING:
    from issuer.config_sections import Config

GRPC_SETTINGS = {
    # The server never forks; gRPC's handlers for it would wait for its threads.
    "GRPC_ENABLE_FORK_SUPPORT": "0",
    # gRPC's own log lines are not structured and may quote peers; what matters is in ours.
    "GRPC_VERBOSITY": "NONE",
}


def serve(
    config: Annotated[
        Path, typer.Option("--config", "-c", help="The configuration file.", envvar="ISSUER_CONFIG")
    ] = Path("issuer.toml"),
    insecure_dev: Annotated[  # noqa: FBT002 - a flag of the command line
        bool,
        typer.Option(
            "--insecure-dev", help="Serve the development authority, which attests nobody. Tokens say `dev: true`."
        ),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=0,
            max=MAX_WORKERS,
            help="Processes that answer calls; 0 is one for each core. Wins over `[server] workers`, which is 1.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve tokens until SIGTERM. SIGHUP loads the policy again.

    [bold]Example[/bold]

        issuer init
        issuer serve --config issuer.toml
    """
    try:
        text = read_config(config)
        settings = parse_config(text, config, os.environ)  # noqa: TID251 - the one place that reads it
    except ConfigError as error:
        fail(str(error), ExitCode.USAGE)
    for name, value in GRPC_SETTINGS.items():
        os.environ.setdefault(name, value)  # noqa: TID251 - gRPC reads it when it is imported
    asked = settings.server.workers if workers is None else workers
    _run(settings, (config, text), insecure_dev=insecure_dev, workers=worker_count(asked, _cores()))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run(settings: Config, source: tuple[Path, str], *, insecure_dev: bool, workers: int) -> None:
    # Imported here, since gRPC must see its settings first and the other commands need none of it.
    import asyncio  # noqa: PLC0415

    import uvloop  # noqa: PLC0415

    from issuer.app import STARTUP_FAULTS, App  # noqa: PLC0415

    log = open_log(settings.log.format)
    logging.getLogger().addHandler(StandardLogging(log))

    look_seldom()

    async def run() -> None:
        if workers > 1:
            from issuer.workers.supervisor import Supervisor  # noqa: PLC0415 - where it is not used, it is not needed

            await Supervisor(settings, source, insecure_dev=insecure_dev, workers=workers, log=log).run()
            return
        await App(settings, insecure_dev=insecure_dev, log=log).run()

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run())
    except STARTUP_FAULTS as error:
        fail(str(error))
    except Exception as error:
        # Nobody foresaw it: the log has the traceback, without values; the person gets a sentence.
        log.exception("issuer_fault")
        fail(f"ended by a defect of its own ({type(error).__name__}); the line `issuer_fault` of the log shows where")
