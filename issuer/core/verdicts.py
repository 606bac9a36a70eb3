"""Verdicts about callers, remembered, since a caller sends the same certificate with every call.

A connection outlives what was true at its handshake. So a verdict is used again only for the very same bytes, the same
bundles, the same identity of the issuer and a trust domain that still may call, and only between the moment at which it
was reached and the end of the first certificate of its chain.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509

from issuer.core.errors import CallerNotVerified, Reason
from issuer.core.extensions import UNPARSABLE
from issuer.core.svid import verify_svid

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cryptography.x509 import Certificate

    from issuer.core.caller import Caller
    from issuer.core.spiffe_id import SpiffeId, TrustDomain
    from issuer.core.trust_bundles import TrustBundles

    Presented = tuple[bytes, bytes | None]
    Recall = Callable[[bytes | None, bytes | None], Caller | None]

DEFAULT_CACHE_SIZE = 4096
"""Callers at once; a verdict takes about 2 KiB, most of it the certificate's text."""
MAX_REMEMBERED_BYTES = 16 * 1024
"""Who presents more is verified anew each time: one caller must not fill the memory with its own chains."""


class _Standard(NamedTuple):
    """What a verdict has to hold by."""

    bundle_version: int
    own_id: SpiffeId
    allowed: frozenset[TrustDomain]
    now: datetime


@dataclass(frozen=True, slots=True)
class _Verdict:
    caller: Caller
    bundle_version: int
    own_id: SpiffeId
    reached_at: datetime

    def holds(self, by: _Standard) -> bool:
        return (
            self.bundle_version == by.bundle_version
            and self.reached_at <= by.now <= self.caller.not_after
            and (self.own_id is by.own_id or self.own_id == by.own_id)
            and self.caller.spiffe_id.trust_domain in by.allowed
        )


class CallerVerifier:
    """Verifies callers by what their connection presented. For one thread, that of the event loop.

    Args:
        bundles: The authorities, and the issuer's own identity. May change in another thread.
        allowed: Asked for the trust domains that may call, at each call.
        cache_size: How many good verdicts are kept; the one unused for longest makes room. Refusals are not kept.
    """

    def __init__(
        self,
        bundles: TrustBundles,
        allowed: Callable[[], frozenset[TrustDomain]],
        cache_size: int = DEFAULT_CACHE_SIZE,
    ) -> None:
        self._bundles = bundles
        self._allowed = allowed
        self._cache_size = cache_size
        self._verdicts: OrderedDict[Presented, _Verdict] = OrderedDict()

    def verify(self, leaf_pem: bytes | None, intermediates_pem: bytes | None, now: datetime) -> Caller:
        """Return who calls.

        Args:
            leaf_pem: The certificate whose key TLS has proved; ``None`` when none was presented.
            intermediates_pem: The rest of what was presented, as concatenated PEM.
            now: The time of the request, UTC.

        Raises:
            CallerNotVerified: With the reason.
            TemporarilyUnavailable: IDENTITY_UNAVAILABLE, when the issuer has no valid identity of its own.
        """
        own_id = self._bundles.own_id()
        if leaf_pem is None:
            raise CallerNotVerified(Reason.SVID_MISSING, "the connection presented no certificate")
        presented = (leaf_pem, intermediates_pem)
        # Read before verifying: a bundle that changes meanwhile makes this verdict one of the past.
        by = _Standard(self._bundles.version, own_id, self._allowed(), now)
        if (caller := self._recalled(presented, by)) is not None:
            return caller
        caller = self._verify_anew(presented, by.allowed, now)
        self._remember(presented, _Verdict(caller, by.bundle_version, own_id, now))
        return caller

    def recall(self, now: datetime) -> Recall:
        """Return what tells of callers at ``now`` what :meth:`verify` would, where nothing has to be verified for it.

        It returns ``None`` for the others. To be used at once, for callers who are here together.

        Raises:
            TemporarilyUnavailable: IDENTITY_UNAVAILABLE, when the issuer has no valid identity of its own.
        """
        own_id = self._bundles.own_id()
        by = _Standard(self._bundles.version, own_id, self._allowed(), now)
        return lambda leaf_pem, intermediates_pem: (
            None if leaf_pem is None else self._recalled((leaf_pem, intermediates_pem), by)
        )

    def _recalled(self, presented: Presented, by: _Standard) -> Caller | None:
        known = self._verdicts.get(presented)
        if known is None or not known.holds(by):
            return None
        self._verdicts.move_to_end(presented)
        return known.caller

    def known(self, leaf_pem: bytes | None, intermediates_pem: bytes | None) -> Caller | None:
        """Return who was last found to present this; ``None`` if nobody is remembered.

        NOT whether that still holds: enough to refuse a call, never to let one in.
        """
        verdict = self._verdicts.get((leaf_pem, intermediates_pem)) if leaf_pem else None
        return verdict.caller if verdict else None

    def _verify_anew(self, presented: Presented, allowed: frozenset[TrustDomain], now: datetime) -> Caller:
        leaf, intermediates = _parse(*presented)
        try:
            return verify_svid(leaf, intermediates, bundles=self._bundles, allowed=allowed, now=now)
        except CallerNotVerified as error:
            if presented in self._verdicts and error.reason is Reason.CHAIN_INCOMPLETE:
                message = "the authority that the chain leads to was removed from the bundle"
                raise CallerNotVerified(Reason.CHAIN_AUTHORITY_REMOVED, message) from error
            raise

    def _remember(self, presented: Presented, verdict: _Verdict) -> None:
        if sum(len(part or b"") for part in presented) > MAX_REMEMBERED_BYTES:
            return
        self._verdicts[presented] = verdict
        self._verdicts.move_to_end(presented)
        if len(self._verdicts) > self._cache_size:
            self._verdicts.popitem(last=False)


def _parse(leaf_pem: bytes, intermediates_pem: bytes | None) -> tuple[Certificate, list[Certificate]]:
    try:
        (leaf,) = x509.load_pem_x509_certificates(leaf_pem)
        return leaf, x509.load_pem_x509_certificates(intermediates_pem) if intermediates_pem else []
    except UNPARSABLE as error:
        raise CallerNotVerified(Reason.SVID_MALFORMED, "a presented certificate cannot be parsed") from error
