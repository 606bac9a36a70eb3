"""An intent: what one workload lets another do later, once, and no more than that.

Who registers it could have the token itself; the token is for the consumer. What is kept of the registration bounds
every token that comes of it: nothing that the registrar gains afterwards makes it wider.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from issuer.core.approval_text import canonical
from issuer.core.errors import FieldViolation, InvalidTokenRequest
from issuer.core.instants import MICROSECOND
from issuer.core.ledger_entries import INTENT
from issuer.core.revocation import Issued
from issuer.core.spiffe_id import SpiffeId
from issuer.core.token_request import Intent, intent_text

if TYPE_CHECKING:
    from datetime import timedelta

    from issuer.core.token_request import TokenRequest

DETAILS_TYPE: Final = "spiffe-issuer-intent"
"""The ``type`` of the one entry of ``authorization_details`` (RFC 9396 section 2.1)."""
USUAL_WINDOW: Final = 3_600 * 1_000_000
"""How long an intent can be redeemed unless its registrar says: until the job that was started is done."""
KEPT_MICROSECONDS: Final = 24 * 3_600 * 1_000_000
"""So long after its window an intent is told of that nobody redeemed: the operator of the next day sees it."""
MAX_USES: Final = 100
MAX_PARAMETERS: Final = 64 * 1024
"""Bytes of parameters that the issuer digests; who has more sends the digest."""
MAX_REQUEST_ID: Final = 128
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]*")
_DIGEST_VERSION: Final = "spiffe-issuer intent 1"


def parameters_digest(parameters: bytes) -> str:
    """Return the digest of parameters: ``sha256:`` and hexadecimal."""
    return f"sha256:{hashlib.sha256(parameters).hexdigest()}"


def is_digest(text: str) -> bool:
    """Return whether a text is spelled as :func:`parameters_digest` spells it."""
    return _DIGEST.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class IntentWanted:
    """What a registrar asks for. It cannot be malformed; whether it may be is decided later.

    Attributes:
        request: The token as the registrar would ask for it itself, with what is to be done as its intent.
        consumer: Who shall redeem it, exactly.
        parameters: The digest of the operation's parameters; empty for none.
        not_before: When it can be redeemed first, microseconds since 1970 UTC; ``None`` for at once.
        expires_at: When no more; ``None`` for an hour later.
        uses: How many tokens may come of it.
        request_id: What the registrar calls this request, so that repeating it registers nothing more; empty for none.

    Raises:
        InvalidTokenRequest: With every fault.
    """

    request: TokenRequest
    consumer: SpiffeId
    parameters: str = ""
    not_before: int | None = None
    expires_at: int | None = None
    uses: int = 1
    request_id: str = ""

    def __post_init__(self) -> None:
        faults = [
            FieldViolation(field, text)
            for field, text, broken in (
                ("operation", "is required", self.request.intent is None or self.request.intent.operation is None),
                ("parameters_digest", "must be sha256: and 64 hexadecimal digits in lower case", not self._digest_fits),
                ("uses", f"must be 1 to {MAX_USES}", not 1 <= self.uses <= MAX_USES),
                ("request_id", f"must be at most {MAX_REQUEST_ID} printable ASCII characters", not self._id_fits),
            )
            if broken
        ]
        if faults:
            raise InvalidTokenRequest(tuple(faults))

    @property
    def _digest_fits(self) -> bool:
        return not self.parameters or is_digest(self.parameters)

    @property
    def _id_fits(self) -> bool:
        return len(self.request_id) <= MAX_REQUEST_ID and _REQUEST_ID.fullmatch(self.request_id) is not None

    @property
    def digest(self) -> str:
        """Of all that is asked for: the same request, repeated, has the same."""
        request = self.request
        said = {
            "application": request.application,
            "audience": request.audience,
            "bind": request.bind_certificate,
            "consumer": str(self.consumer),
            "expires_at": self.expires_at,
            "intent": intent_text(request.intent),
            "not_before": self.not_before,
            "parameters": self.parameters,
            "scopes": request.scopes,
            "ttl": None if request.ttl is None else request.ttl // MICROSECOND,
            "uses": self.uses,
            "version": _DIGEST_VERSION,
        }
        return f"sha256:{hashlib.sha256(canonical(said).encode()).hexdigest()}"

    def window(self, now: int, longest: timedelta) -> tuple[int, int]:
        """Return from when until when it can be redeemed, microseconds since 1970 UTC.

        Args:
            now: When it is registered.
            longest: How far from then it may end.

        Raises:
            InvalidTokenRequest: It is no window, or too long a one.
        """
        most = longest // MICROSECOND
        begin = now if self.not_before is None else max(self.not_before, now)
        end = now + min(USUAL_WINDOW, most) if self.expires_at is None else self.expires_at
        if end <= begin:
            raise InvalidTokenRequest((FieldViolation("expire_time", "must be in the future, and after 'not_before'"),))
        if end - now > most:
            raise InvalidTokenRequest((FieldViolation("expire_time", f"must be at most {longest} from now"),))
        return begin, end


@dataclass(frozen=True, slots=True)
class Registration:
    """What was registered; it never changes. What became of it is in :mod:`issuer.core.intent_state`.

    Attributes:
        id: UUIDv7.
        registrar: The SPIFFE ID of who registered it.
        consumer: The SPIFFE ID of who may redeem it.
        audience: The API.
        application: On whose behalf, as policy resolved it; empty for none.
        scopes: What the registrar could have had.
        operation: What will be done.
        resource: To what; empty for nothing that is named.
        parameters: The digest of the operation's parameters; empty for none.
        transaction: The transaction id; empty for none.
        not_before: When it can be redeemed first, microseconds since 1970 UTC.
        expires_at: When no more.
        uses: How many tokens may come of it.
        ttl: The lifetime that the registrar asked for, microseconds; ``None`` for the longest.
        lifetime: How long a token of the registrar's would have lived then, in seconds; none lives longer.
        bind: A token has to be bound to its holder's certificate: the registrar asked for it, or policy did.
        rules: The grants by which the registrar could have it.
        policy: The digest of the policy that decided.
        decision: The id of the decision.
        created: When, microseconds since 1970 UTC.
        request_id: What the registrar called the request; empty for nothing.
        request: The digest of that request.
    """

    id: str
    registrar: str
    consumer: str
    audience: str
    application: str
    scopes: tuple[str, ...]
    operation: str
    resource: str
    parameters: str
    transaction: str
    not_before: int
    expires_at: int
    uses: int
    ttl: int | None
    lifetime: int
    bind: bool
    rules: tuple[str, ...]
    policy: str
    decision: str
    created: int
    request_id: str
    request: str

    @property
    def over_at(self) -> int:
        """When nothing of it matters any more, microseconds since 1970 UTC."""
        return self.expires_at + KEPT_MICROSECONDS

    @property
    def intent(self) -> Intent:
        """What the token is for, as policy conditions see it."""
        return Intent(self.operation, self.resource or None, transaction=self.transaction or None)

    @property
    def right(self) -> Issued:
        """The token that the registrar could have had then, as far as a revocation can tell it from others."""
        return Issued(
            caller=SpiffeId.parse(self.registrar),
            audience=self.audience,
            application=self.application,
            rules=self.rules,
            policy=self.policy,
            key="",
            time=self.created,
            basis=(f"{INTENT}/{self.id}",),
        )

    @property
    def details(self) -> str:
        """What a resource server is told that may be done: ``authorization_details`` as canonical JSON."""
        said = {
            "type": DETAILS_TYPE,
            "intent": self.id,
            "operation": self.operation,
            "resource": self.resource,
            "parameters_digest": self.parameters,
        }
        return f"[{canonical({name: value for name, value in said.items() if value})}]"
