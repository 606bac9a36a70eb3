"""What a transport knows about one call, before and after the caller is verified. Imports no gRPC package."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

    from issuer.core.caller import Caller
    from issuer.issuance import Asked, LogFields
    from issuer.observing import Metadata


class Call(NamedTuple):
    """An unverified call: only what the transport saw.

    Attributes:
        method: The full method name, ``package.Service/Method``.
        peer: The network peer as the transport spells it; for the log only, never for a decision.
        leaf_pem: The client certificate as PEM; ``None`` when none was presented.
        intermediates_pem: The rest of the presented chain as concatenated PEM; ``None`` when there is none.
        within: Seconds until the caller no longer waits; ``None`` when it did not say.
        metadata: Asked for what came beside the message; for traces alone, never for a decision.
    """

    method: str
    peer: str
    leaf_pem: bytes | None
    intermediates_pem: bytes | None
    within: float | None = None
    metadata: Metadata = tuple


class VerifiedCall(NamedTuple):
    """A call whose caller was verified; the only kind that a method receives.

    Attributes:
        asked: Who calls, from where and when.
        request_id: Finds this call in the log.
        log_fields: What the method adds to the call's one log line; never a secret.
    """

    asked: Asked
    request_id: str
    log_fields: LogFields

    @property
    def caller(self) -> Caller:
        """Who calls."""
        return self.asked.caller

    @property
    def now(self) -> datetime:
        """The time of this request, read once."""
        return self.asked.now
