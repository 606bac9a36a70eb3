"""Which transport carries the calls: ``[server] transport``. What is not used need not be installed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from issuer.rpc.server import GrpcioListener
from issuer.rpc.together import Together
from issuer.settings_of_parts import rpc_settings
from issuer.startup import StartupError

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from issuer.rpc.listener import Listener
    from issuer.rpc.methods import IssuerMethods
    from issuer.rpc.pipeline import Pipeline
    from issuer.services import Parts
    from issuer.spire.identity import SpireIdentity


def chosen_transport(
    parts: Parts, methods: IssuerMethods, pipeline: Pipeline, *, identity: SpireIdentity, log: FilteringBoundLogger
) -> Listener:
    """Return the transport of the configuration.

    Raises:
        StartupError: It is not installed.
    """
    server = parts.config.server
    settings = rpc_settings(server)
    if server.transport == "grpcio":
        return GrpcioListener(settings, identity=identity)
    if server.transport == "h2corn":
        try:
            from issuer.rpc.h2corn_listener import H2cornListener  # noqa: PLC0415 - see above
        except ImportError as error:
            raise StartupError(f"[server] transport: h2corn cannot be loaded: {error}") from error
        return H2cornListener(settings, identity=identity, log=log, door=pipeline.door)
    try:
        from issuer.rpc.native_listener import NativeListener  # noqa: PLC0415 - see above
    except ImportError as error:
        message = f"[server] transport: the native one cannot be loaded: {error}; `make transport` installs it"
        raise StartupError(message) from error
    most = (server.max_wait + parts.config.ledger.max_wait).total_seconds()
    together = partial(Together, pipeline, methods, parts.policies, parts.facts, most_seconds=most)
    return NativeListener(settings, identity=identity, log=log, together=lambda tell: together(tell=tell))
