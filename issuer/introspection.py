"""Whether a token is good now: what its signature, its time, revocations and the record say, to those who may know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from issuer.core.errors import Reason, TemporarilyUnavailable
from issuer.dead_descendants import dead_by

if TYPE_CHECKING:
    from collections.abc import Callable

    from issuer.core.own_token import OwnToken, OwnTokens
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
        3. It was not revoked by itself.
        4. The ledger holds the decision that led to it.
        5. No token above it was revoked by itself, and no revocation killed what that decision says.

        Raises:
            TemporarilyUnavailable: POLICY_NOT_LOADED, LEDGER_UNAVAILABLE.
        """
        token = self._own.read(text)
        if token is None:
            return None, "not ours"
        why_not = self._refused(token, asked) or await self._dead(token)
        return (None, why_not) if why_not else (token, "")

    def _refused(self, token: OwnToken, asked: Asked) -> str:
        if not token.not_before <= asked.now.timestamp() < token.expires_at:  # 1
            return "not valid now"
        return "" if self._serves(asked, token.audience) else "not for this caller"  # 2

    async def _dead(self, token: OwnToken) -> str:
        if not self._is_current():
            raise TemporarilyUnavailable(Reason.LEDGER_UNAVAILABLE, "it is not known what was revoked")
        if self._revocations.is_token_revoked(token.token_id):  # 3
            return "revoked"
        found = await self._tokens.issued(token.token_id)
        if found is None:  # 4
            return "not recorded"
        issued = found.issued._replace(key=token.key_id)
        return "revoked" if dead_by(self._revocations)(found._replace(issued=issued)) else ""  # 5

    def _serves(self, asked: Asked, audience: str) -> bool:
        rule = self._policies.current().audiences.get(audience)
        return rule is not None and any(server.matches(asked.caller.spiffe_id) for server in rule.servers)
