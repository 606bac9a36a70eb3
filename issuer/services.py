"""What the gRPC services are made of, put together for ``app.py``."""

from __future__ import annotations

from random import SystemRandom
from typing import TYPE_CHECKING, NamedTuple

from issuer.approving import Approving
from issuer.core.claims import TokenProfile
from issuer.core.own_token import OwnTokens
from issuer.introspection import Introspection
from issuer.issuance import Issuance
from issuer.kept_policies import KeptPolicies
from issuer.ledger.decision_book import LedgerDecisionBook
from issuer.ledger.token_book import LedgerTokenBook
from issuer.ledger_keeping import LedgerKeeping, ledger_reader
from issuer.revocation_feed import RevocationFeed
from issuer.revoking import Revoking
from issuer.rpc.approval_methods import ApprovalMethods
from issuer.rpc.decision_methods import DecisionMethods
from issuer.rpc.methods import IssuerMethods
from issuer.rpc.report_methods import ReportMethods
from issuer.rpc.revocation_methods import RevocationMethods
from issuer.rpc.services import Services
from issuer.status_entries import StatusEntries

if TYPE_CHECKING:
    from issuer.config_sections import Config
    from issuer.ports import Clock, FactBook, PolicyBook, Signer, TokenIds
    from issuer.rpc.roles import Roles


class Parts(NamedTuple):
    """What there is one of in an issuer.

    Attributes:
        config: What it was told.
        clock: The time.
        ids: Where identifiers come from.
        policies: The policy in force.
        facts: What feeders told.
        signer: The key.
        keeping: The ledger.
        roles: Who may administer.
        development: It serves the embedded development authority.
    """

    config: Config
    clock: Clock
    ids: TokenIds
    policies: PolicyBook
    facts: FactBook
    signer: Signer
    keeping: LedgerKeeping
    roles: Roles
    development: bool


def services(parts: Parts) -> Services:
    """Return the methods, over the parts."""
    keeping = parts.keeping
    reader = ledger_reader(parts.config.ledger)
    decisions, tokens = LedgerDecisionBook(reader, KeptPolicies(reader).get), LedgerTokenBook(reader)
    revoking = Revoking(ledger=keeping.ledger, revocations=keeping.revocations, tokens=tokens, ids=parts.ids)
    approving = _approving(parts)
    methods = IssuerMethods(
        issuance=_issuance(parts),
        approving=approving,
        signer=parts.signer,
        key_set_max_age=parts.config.http.key_set_max_age,
        introspection=Introspection(
            own=OwnTokens(parts.signer.public_keys().jwks.decode(), parts.config.issuer.url),
            policies=parts.policies,
            revocations=keeping.revocations,
            tokens=tokens,
            is_current=lambda: keeping.ledger.fault is None,
        ),
        revoking=revoking,
        feed=RevocationFeed(
            revocations=keeping.revocations,
            policies=parts.policies,
            tokens=tokens,
            clock=parts.clock,
            is_current=lambda: keeping.ledger.fault is None,
        ),
    )
    return Services(
        methods=methods,
        decisions=DecisionMethods(decisions),
        reports=ReportMethods(decisions, parts.policies),
        revocations=RevocationMethods(revoking),
        approvals=ApprovalMethods(approving=approving, tokens=tokens, roles=parts.roles),
    )


def _issuance(parts: Parts) -> Issuance:
    return Issuance(
        profile=TokenProfile(issuer=parts.config.issuer.url, development=parts.development),
        policies=parts.policies,
        facts=parts.facts,
        signer=parts.signer,
        ids=parts.ids,
        ledger=parts.keeping.ledger,
        revocations=parts.keeping.revocations,
        approvals=parts.keeping.approvals,
        refusals=parts.keeping.refusals,
        statuses=StatusEntries(
            ledger=parts.keeping.ledger,
            blocks=parts.keeping.status_blocks,
            clock=parts.clock,
            order=SystemRandom(),
        ),
    )


def _approving(parts: Parts) -> Approving:
    return Approving(
        policies=parts.policies,
        facts=parts.facts,
        ids=parts.ids,
        ledger=parts.keeping.ledger,
        revocations=parts.keeping.revocations,
        approvals=parts.keeping.approvals,
        clock=parts.clock,
        development=parts.development,
    )
