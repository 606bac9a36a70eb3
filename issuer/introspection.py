"""Whether a token is good now: what its signature, its time, revocations and the record say, to those who may know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from issuer.core.errors import Reason, TemporarilyUnavailable
from issuer.dead_descendants import dead_by

if TYPE_CHECKING:
    from collections.abc import Callable

    from issuer.core.own_token import OwnToken, OwnTokens
    from issuer.core.recorded_tokens import RecordedToken
    from issuer.issuance import Asked
    from issuer.ports import PolicyBook, RevocationBook, TokenBook


class Introspection:
    """Looks at tokens. Keeps no state of its own.

    Args:
        own: Reads tokens of this issuer.
        policies: The policy in force, which says who serves an audience.
        revocations: Those that hold.
        tokens: What the ledger knows of tokens.
        is_current: Whether the revocations are those of the ledger: not while it cannot be reached.
    """

    def __init__(
        self,
        *,
        own: OwnTokens,
        policies: PolicyBook,
        revocations: RevocationBook,
        tokens: TokenBook,
        is_current: Callable[[], bool],
    ) -> None:
        self._own = own
        self._policies = policies
        self._revocations = revocations
        self._tokens = tokens
        self._is_current = is_current

    def read(self, text: str) -> OwnToken | None:
        """Return what a token of this issuer says, good or not; ``None`` for any other text."""
        return self._own.read(text)

    async def introspect(self, text: str, asked: Asked) -> tuple[OwnToken | None, str]:
        """Return what a token says if it is good now and the caller serves its audience; else why not, for the log.

        1. It was signed by a key of ours, and its time is now.
        2. The caller is one of its audience's servers.
        3. It was not revoked by itself, nor was one above it.
        4. The ledger holds the decision that led to it.
        5. No token above it was revoked by itself, and no revocation killed what that decision says.

        Raises:
            TemporarilyUnavailable: POLICY_NOT_LOADED, LEDGER_UNAVAILABLE.
        """
        token = self._own.read(text)
        if token is None:
            return None, "not ours"
        if not is_valid_at(token, asked.now.timestamp()):  # 1
            return None, "not valid now"
        if not self.serves(asked, token.audience):  # 2
            return None, "not for this caller"
        found = await self.recorded(token)  # 4
        if found is None:
            return None, "not recorded, or revoked"
        return (None, "revoked") if self.is_dead(token, found) else (token, "")  # 3, 5

    def serves(self, asked: Asked, audience: str) -> bool:
        """Return whether the caller is one of the servers of an audience.

        Raises:
            TemporarilyUnavailable: POLICY_NOT_LOADED.
        """
        rule = self._policies.current().audiences.get(audience)
        return rule is not None and any(server.matches(asked.caller.spiffe_id) for server in rule.servers)

    async def recorded(self, token: OwnToken) -> RecordedToken | None:
        """Return what the ledger knows of a token; ``None`` where it has no record of it, or it was revoked by itself.

        Raises:
            TemporarilyUnavailable: LEDGER_UNAVAILABLE: it is not known, or not known what was revoked.
        """
        if not self._is_current():
            raise TemporarilyUnavailable(Reason.LEDGER_UNAVAILABLE, "it is not known what was revoked")
        if self._revocations.is_token_revoked(token.token_id):
            return None
        return await self._tokens.issued(token.token_id)

    def is_dead(self, token: OwnToken, found: RecordedToken) -> bool:
        """Return whether a recorded token was revoked, as far as is known at this moment: it, or one above it."""
        if self._revocations.is_token_revoked(token.token_id):
            return True
        issued = found.issued._replace(key=token.key_id)
        return dead_by(self._revocations)(found._replace(issued=issued))


def is_valid_at(token: OwnToken, now: float) -> bool:
    """Return whether a moment, in Unix seconds, is within a token's time (RFC 7519 section 4.1.4)."""
    return token.not_before <= now < token.expires_at
