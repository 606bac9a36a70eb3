"""The methods of AdminService: ``async (message, call) -> message``, one short function each, no gRPC package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from issuer.core.errors import FieldViolation, InvalidTokenRequest, RpcNotAllowed
from issuer.core.fact_reading import FactRefused, fact_from_document
from issuer.core.fact_text import facts_text
from issuer.core.instants import microseconds
from issuer.core.ledger_entries import FACTS_TOLD, Event
from issuer.rpc import admin_messages
from issuer_api.v1 import admin_service_pb2 as pb

if TYPE_CHECKING:
    from issuer.core.facts import Fact
    from issuer.ports import FactSink, Ledger, PolicyAdmin
    from issuer.rpc.call import VerifiedCall
    from issuer.rpc.roles import Roles

MAX_FACTS = 1_000
"""The contract's bound, in the comment of PutFactsRequest."""
MAX_VIOLATIONS = 20
"""So many faults of one call are told; the message is bounded, whatever the feeder sent."""


class AdminMethods:
    """What AdminService does, for any transport.

    Args:
        policies: The policy in force, and what may be done to it.
        facts: Where told facts go.
        roles: Which types of fact a feeder may tell.
        ledger: Is told of facts before they count.
    """

    def __init__(self, *, policies: PolicyAdmin, facts: FactSink, roles: Roles, ledger: Ledger) -> None:
        self._policies = policies
        self._ledger = ledger
        self._facts = facts
        self._roles = roles

    async def put_facts(self, message: pb.PutFactsRequest, call: VerifiedCall) -> pb.PutFactsResponse:
        """Take facts, all or nothing, recorded under the SPIFFE ID of their feeder."""
        if not 1 <= len(message.facts) <= MAX_FACTS:
            raise InvalidTokenRequest((FieldViolation("facts", f"must have 1 to {MAX_FACTS} entries"),))
        allowed = self._roles.types_of(call.caller)
        if forbidden := {fact.type for fact in message.facts} - allowed:
            raise RpcNotAllowed(f"this feeder may not tell facts of type {min(forbidden)[:64]!r}")
        facts = self._read(message, call)
        call.log_fields["facts"] = len(facts)
        call.log_fields["types"] = sorted({fact.type for fact in facts})
        await self._ledger.write(_told(facts, call), within=call.asked.within)
        await self._facts.put(facts, call.now)
        return pb.PutFactsResponse(expire_times=[admin_messages.timestamp(fact.expires_at) for fact in facts])

    def _read(self, message: pb.PutFactsRequest, call: VerifiedCall) -> list[Fact]:
        fact_types = self._policies.status().current.policy.fact_types
        source = str(call.caller.spiffe_id)
        facts, violations = [], []
        for position, each in enumerate(message.facts):
            try:
                document = admin_messages.document_from_proto(each)
                facts.append(fact_from_document(document, fact_types, source=source, now=call.now))
            except FactRefused as refused:
                field = ".".join(filter(None, (f"facts[{position}]", refused.field)))
                violations.append(FieldViolation(field, refused.message))
        if violations:
            raise InvalidTokenRequest(tuple(violations[:MAX_VIOLATIONS]))
        return facts

    async def get_policy_status(
        self, _message: pb.GetPolicyStatusRequest, _call: VerifiedCall
    ) -> pb.GetPolicyStatusResponse:
        """Tell which policy is in force, and which are kept."""
        return admin_messages.status_to_proto(self._policies.status(), self._facts.feeders())

    async def reload_policy(self, _message: pb.ReloadPolicyRequest, call: VerifiedCall) -> pb.ReloadPolicyResponse:
        """Load the files now."""
        generation = await self._policies.reload(actor=str(call.caller.spiffe_id))
        call.log_fields["policy"] = generation.policy.digest
        return pb.ReloadPolicyResponse(current=admin_messages.generation_to_proto(generation))

    async def rollback_policy(self, message: pb.RollbackPolicyRequest, call: VerifiedCall) -> pb.RollbackPolicyResponse:
        """Put a kept policy in force, and hold it."""
        generation = await self._policies.roll_back(message.digest, actor=str(call.caller.spiffe_id))
        call.log_fields["policy"] = generation.policy.digest
        return pb.RollbackPolicyResponse(current=admin_messages.generation_to_proto(generation))


def _told(facts: list[Fact], call: VerifiedCall) -> Event:
    return Event(FACTS_TOLD, microseconds(call.now), str(call.caller.spiffe_id), facts_text(facts))
