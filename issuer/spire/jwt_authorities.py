"""Whose JWT-SVIDs are heard, and by which keys: the Workload API's JWT bundles, for the trust domains that may call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent_client.jwt_bundles import JwtBundleWatcher
from agent_client.workload_api_errors import WorkloadApiError
from issuer.core.errors import IssuerError, Reason, TemporarilyUnavailable
from issuer.core.foreign_keys import foreign_keys
from issuer.core.spiffe_id import TrustDomain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AsyncExitStack

    from structlog.typing import FilteringBoundLogger

    from agent_client.jwt_bundles import JwtBundles
    from issuer.config_sections import Config
    from issuer.core.foreign_keys import ForeignKey

    Keys = Mapping[str, ForeignKey]

_USES: Final = frozenset({"jwt-svid", "sig"})
"""What a JWT authority is for (SPIFFE_Trust_Domain_and_Bundle section 4.2.2); SPIRE's Workload API leaves it out."""


class JwtAuthorities:
    """The JWT authorities of the trust domains that may call.

    Thread-safe: the watcher's thread replaces one mapping, and readers take whichever is there. While the Workload API
    is away the last bundles stay in use, as long as the issuer's own SVID lets it serve at all.

    Args:
        watcher: The Workload API's stream of JWT bundles. To be started, and closed, by the caller.
        allowed: Which trust domains may call.
        log: Where changes are told.
    """

    def __init__(
        self, watcher: JwtBundleWatcher, allowed: Callable[[], frozenset[TrustDomain]], log: FilteringBoundLogger
    ) -> None:
        self._watcher = watcher
        self._allowed = allowed
        self._log = log
        self._keys: Mapping[TrustDomain, Keys] | None = None
        watcher.subscribe(self._update)

    def of(self, trust_domain: TrustDomain) -> Keys | None:
        """Return the keys of a trust domain by ``kid``; ``None`` where it may not call, or has none.

        Raises:
            TemporarilyUnavailable: IDENTITY_UNAVAILABLE: the Workload API has not told any yet.
        """
        if self._keys is None:
            self._read_first()
        keys = self._keys or {}
        return keys.get(trust_domain) if trust_domain in self._allowed() else None

    def _read_first(self) -> None:
        try:
            self._update(self._watcher.current())
        except WorkloadApiError as error:
            message = "the authorities of JWT-SVIDs are not known yet"
            raise TemporarilyUnavailable(Reason.IDENTITY_UNAVAILABLE, message) from error

    def _update(self, bundles: JwtBundles) -> None:
        keys: dict[TrustDomain, Keys] = {}
        for name, jwks in bundles.items():
            try:
                keys[TrustDomain.parse(name)] = foreign_keys(jwks, _USES)
            except (IssuerError, ValueError) as error:
                # Left out, so nobody of it is heard; the others are.
                self._log.error("jwt_bundle_unusable", trust_domain=name, error=str(error))
        self._keys = keys
        self._log.info("jwt_bundles_updated", trust_domains=sorted(map(str, keys)))


def heard_authorities(
    config: Config,
    allowed: Callable[[], frozenset[TrustDomain]],
    stack: AsyncExitStack,
    log: FilteringBoundLogger,
) -> Callable[[TrustDomain], Keys | None]:
    """Return what tells the keys of a trust domain's JWT-SVIDs, followed until ``stack`` ends.

    Nobody is heard, and nothing followed, unless ``[exchange] jwt_svids`` says so.
    """
    if not config.exchange.jwt_svids:
        return lambda _: None
    watcher = JwtBundleWatcher(config.spire.socket)
    authorities = JwtAuthorities(watcher, allowed, log)
    stack.enter_context(watcher)
    return authorities.of
