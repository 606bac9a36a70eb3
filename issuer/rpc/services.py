"""The methods that the server serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from issuer.rpc.access_methods import AccessMethods
    from issuer.rpc.approval_methods import ApprovalMethods
    from issuer.rpc.decision_methods import DecisionMethods
    from issuer.rpc.intent_methods import IntentMethods
    from issuer.rpc.key_methods import KeyMethods
    from issuer.rpc.methods import IssuerMethods
    from issuer.rpc.report_methods import ReportMethods
    from issuer.rpc.revocation_methods import RevocationMethods


class Services(NamedTuple):
    """The methods of every service, but for the administration of policy and facts.

    Attributes:
        methods: Of IssuerService.
        decisions: Of AdminService, about decisions.
        reports: Of AdminService, about many of them.
        revocations: Of AdminService, about revocations.
        approvals: Of ApprovalService.
        accesses: Of AccessService.
        intents: Of IntentService.
        keys: Of AdminService, about the signing keys.
    """

    methods: IssuerMethods
    decisions: DecisionMethods
    reports: ReportMethods
    revocations: RevocationMethods
    approvals: ApprovalMethods
    accesses: AccessMethods
    intents: IntentMethods
    keys: KeyMethods
