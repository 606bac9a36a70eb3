"""What the Workload API says right now, as the ports ``TrustBundles`` and ``ServerIdentity``."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding

from issuer.core.errors import IssuerError, Reason, TemporarilyUnavailable
from issuer.core.spiffe_id import SpiffeId, TrustDomain
from issuer.ports import TlsMaterial

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from cryptography.x509 import Certificate
    from structlog.typing import FilteringBoundLogger

    from agent_client.workload_api import WorkloadApiWatcher, X509Context, X509Svid
    from issuer.ports import Clock

    Bundles = Mapping[TrustDomain, tuple[Certificate, ...]]


class NoUsableSvid(Exception):
    """The Workload API gave SVIDs, but none that the issuer can serve with."""


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """One coherent view: everything in it came in the same message of the Workload API."""

    own_id: SpiffeId
    not_before: datetime
    not_after: datetime
    read_at: datetime
    tls: TlsMaterial
    bundles: Bundles
    version: int


class SpireIdentity:
    """The issuer's SVID and the bundles of the trust domains that may call.

    Thread-safe: the watcher's thread replaces one immutable snapshot, and readers take whichever is there. While the
    Workload API is away the last snapshot stays in use, but never past the end of the issuer's own SVID.

    Args:
        watcher: The Workload API's stream, already started, with its first answer there.
        spiffe_id: Which SVID to serve with, where there are several; ``None`` takes the first.
        federated: Trust domains other than the issuer's own that may call.
        clock: The system clock.
        log: Where changes are told.

    Raises:
        NoUsableSvid: When the first answer has no SVID to serve with.
    """

    def __init__(
        self,
        watcher: WorkloadApiWatcher,
        *,
        spiffe_id: SpiffeId | None,
        federated: frozenset[TrustDomain],
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self._spiffe_id = spiffe_id
        self._federated = federated
        self._clock = clock
        self._log = log
        self._changed: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._snapshot = self._read(watcher.current(), version=1)
        watcher.subscribe(self._update)
        # An update between the two lines above would be lost; reading again is cheap and changes nothing otherwise.
        self._update(watcher.current())

    @property
    def version(self) -> int:
        """Grows with every change of a bundle."""
        return self._snapshot.version

    def authorities(self, trust_domain: TrustDomain) -> tuple[Certificate, ...] | None:
        """Return the authorities of a trust domain: ``None`` when unknown, ``()`` when its bundle is empty."""
        return self._snapshot.bundles.get(trust_domain)

    def trust_domains(self) -> frozenset[TrustDomain]:
        """Return the trust domains of which a bundle is known, whether they may call or not."""
        return frozenset(self._snapshot.bundles)

    def allowed_trust_domains(self) -> frozenset[TrustDomain]:
        """Return the trust domains that may call: the issuer's own and those configured."""
        return self._federated | {self._snapshot.own_id.trust_domain}

    def own_id(self) -> SpiffeId:
        """Return the issuer's SPIFFE ID.

        Raises:
            TemporarilyUnavailable: IDENTITY_UNAVAILABLE, when its SVID has expired and no new one came.
        """
        snapshot = self._snapshot
        if snapshot.not_after < self._clock.now():
            message = "the issuer's own SVID has expired; its SPIRE agent has not renewed it"
            raise TemporarilyUnavailable(Reason.IDENTITY_UNAVAILABLE, message)
        return snapshot.own_id

    def svid_expires_at(self) -> datetime:
        """Return the last moment at which the issuer can serve with the SVID it has."""
        return self._snapshot.not_after

    def svid_issued_at(self) -> datetime:
        """Return the first moment at which the issuer's SVID is valid; SPIRE sets it a few seconds back."""
        return self._snapshot.not_before

    def updated_at(self) -> datetime:
        """Return when the Workload API last told anything; each time it tells the SVID and all bundles."""
        return self._snapshot.read_at

    def tls_material(self) -> TlsMaterial:
        """Return what to present and accept in a handshake."""
        return self._snapshot.tls

    def subscribe(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` after every update, from the watcher's thread."""
        self._changed.append(changed)

    def _update(self, context: X509Context) -> None:
        with self._lock:
            try:
                self._snapshot = self._read(context, version=self._snapshot.version + 1)
            except NoUsableSvid as error:
                self._log.error("svid_update_unusable", error=str(error))
                return
        self._log.info(
            "svid_updated",
            spiffe_id=str(self._snapshot.own_id),
            expires=self._snapshot.not_after.isoformat(),
            trust_domains=sorted(map(str, self._snapshot.bundles)),
        )
        for changed in self._changed:
            changed()

    def _read(self, context: X509Context, version: int) -> _Snapshot:
        svid = self._pick(context)
        own_id = SpiffeId.parse(svid.spiffe_id)
        bundles = dict(_parsed_bundles(context, self._log))
        previous = getattr(self, "_snapshot", None)
        if previous is not None and previous.bundles == bundles:
            version = previous.version
        allowed = self._federated | {own_id.trust_domain}
        tls = TlsMaterial(
            certificate_chain=svid.certificate_chain_pem(),
            private_key=svid.private_key_pem(),
            roots=_pem(bundles, allowed),
        )
        return _Snapshot(
            own_id=own_id,
            not_before=svid.certificates[0].not_valid_before_utc,
            not_after=svid.not_after,
            read_at=self._clock.now(),
            tls=tls,
            bundles=bundles,
            version=version,
        )

    def _pick(self, context: X509Context) -> X509Svid:
        for svid in context.svids:
            if self._spiffe_id is None or svid.spiffe_id == str(self._spiffe_id):
                return svid
        available = ", ".join(svid.spiffe_id for svid in context.svids) or "none"
        raise NoUsableSvid(f"the Workload API has no SVID for {self._spiffe_id}; it has: {available}")


def _parsed_bundles(
    context: X509Context, log: FilteringBoundLogger
) -> list[tuple[TrustDomain, tuple[Certificate, ...]]]:
    bundles = []
    for name, authorities in context.bundles.items():
        try:
            bundles.append((TrustDomain.parse(name), tuple(authorities)))
        except IssuerError as error:
            # Left out, so callers of that domain are refused; the others are served.
            log.error("trust_domain_malformed", trust_domain=name, error=error.message)
    return bundles


def _pem(bundles: Bundles, allowed: frozenset[TrustDomain]) -> bytes:
    return b"".join(
        certificate.public_bytes(Encoding.PEM)
        for trust_domain in sorted(allowed & bundles.keys())
        for certificate in bundles[trust_domain]
    )
