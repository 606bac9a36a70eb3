"""Takes an ID token as evidence that a person approves: verified first, then held to the rules of the core."""

from __future__ import annotations

from typing import TYPE_CHECKING

from issuer.core.assertion import AssertionRefused
from issuer.core.errors import AdminRefused, Reason

if TYPE_CHECKING:
    from issuer.core.approval_evidence import Evidence, EvidenceRules
    from issuer.core.approval_request import Question
    from issuer.core.spiffe_id import SpiffeId
    from issuer.issuance import Asked
    from issuer.ports import AssertionVerifier


class Evidencing:
    """Who approves, and what proves it.

    Args:
        assertions: What verifies ID tokens.
        rules: What counts as evidence.
    """

    def __init__(self, assertions: AssertionVerifier, rules: EvidenceRules) -> None:
        self._assertions = assertions
        self._rules = rules

    def is_gateway(self, spiffe_id: SpiffeId) -> bool:
        """Return whether it may bring evidence of others, and so sees what they are asked."""
        return spiffe_id in self._rules.gateways

    async def take(self, id_token: str, question: Question, asked: Asked) -> tuple[str, Evidence | None]:
        """Return the SPIFFE ID of who approves, and what is kept of the evidence; ``None`` where none was brought.

        Raises:
            AdminRefused: EVIDENCE_REFUSED, APPROVER_NOT_ALLOWED.
            TemporarilyUnavailable: OIDC_ISSUER_UNAVAILABLE.
        """
        bringer = asked.caller.spiffe_id
        if not id_token:
            return str(bringer), None
        try:
            assertion = await self._assertions.verify(id_token, asked.now)
        except AssertionRefused as refused:
            # The fault names no value of the token, which this caller may have found somewhere.
            raise AdminRefused(Reason.EVIDENCE_REFUSED, f"the ID {str(refused).removeprefix('the ')}") from None
        return self._rules.take(assertion, question, bringer, int(asked.now.timestamp()))
