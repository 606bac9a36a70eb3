"""Which transport carries the calls: ``[server] transport``. What is not used need not be installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from issuer.rpc.server import GrpcioListener
from issuer.startup import StartupError, native_missing

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from issuer.rpc.listener import Listener
    from issuer.rpc.pipeline import Pipeline
    from issuer.rpc.settings import RpcSettings
    from issuer.rpc.together import MakeTogether
    from issuer.spire.identity import SpireIdentity


def chosen_transport(
    transport: str,
    settings: RpcSettings,
    pipeline: Pipeline,
    together: MakeTogether,
    *,
    identity: SpireIdentity,
    log: FilteringBoundLogger,
) -> Listener:
    """Return the transport of the configuration.

    Args:
        transport: Which, as the configuration spells it.
        settings: Address and limits.
        pipeline: What answers calls.
        together: Makes what answers those that a transport hands over in lists.
        identity: The issuer's own SVID and the roots to accept.
        log: Where the transport tells of changes and faults.

    Raises:
        StartupError: It is not installed.
    """
    if transport == "grpcio":
        return GrpcioListener(settings, identity=identity)
    if transport == "h2corn":
        try:
            from issuer.rpc.h2corn_listener import H2cornListener  # noqa: PLC0415 - see above
        except ImportError as error:
            raise StartupError(f"[server] transport: h2corn cannot be loaded: {error}") from error
        return H2cornListener(settings, identity=identity, log=log, door=pipeline.door)
    try:
        from issuer.rpc.native_listener import NativeListener  # noqa: PLC0415 - see above
    except ImportError as error:
        raise native_missing(error) from error
    return NativeListener(settings, identity=identity, log=log, together=together)
