"""The listener for introspection and revocation over HTTP, where the configuration names one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from issuer.rpc.listener import CannotListen
from issuer.rpc.oauth_forms import MAX_FORM_BYTES
from issuer.rpc.oauth_http import OauthHttp

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from structlog.typing import FilteringBoundLogger

    from issuer.config_sections import Config
    from issuer.rpc.listener import ChangingIdentity
    from issuer.rpc.methods import IssuerMethods
    from issuer.rpc.pipeline import Pipeline
    from issuer.rpc.settings import RpcSettings


async def open_oauth_http(
    config: Config,
    limits: RpcSettings,
    methods: IssuerMethods,
    pipeline: Pipeline,
    *,
    identity: ChangingIdentity,
    log: FilteringBoundLogger,
    stack: AsyncExitStack,
) -> None:
    """Accept requests until the stack is left; do nothing where no listener is configured.

    Connections have the limits of the gRPC listener, and requests share its turns.

    Raises:
        AddressInUse: The address cannot be taken.
        CannotListen: h2corn cannot be loaded, or cannot use what SPIRE gave.
    """
    if config.oauth_http.listen is None:
        return
    try:
        from issuer.rpc.h2corn_listener import H2cornListener  # noqa: PLC0415 - where it is not used, it is not needed
    except ImportError as error:
        raise CannotListen(f"[oauth_http]: h2corn cannot be loaded: {error}") from error
    settings = replace(limits, listen=config.oauth_http.listen)
    # Twice the bound of ours, which is told in the answer.
    listener = H2cornListener(settings, identity=identity, log=log, max_body_bytes=2 * MAX_FORM_BYTES)
    port = listener.bind()
    await listener.serve(lambda: OauthHttp(methods, pipeline))
    stack.push_async_callback(listener.stop, config.server.shutdown_grace.total_seconds() / 2)
    log.info("oauth_http_listening", address=f"{settings.listen.rpartition(':')[0]}:{port}")
