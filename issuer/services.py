"""What the gRPC services are made of, put together for ``app.py``."""

from __future__ import annotations

from random import SystemRandom
from typing import TYPE_CHECKING, NamedTuple

from issuer.access_watch import AccessWatch
from issuer.accessing import Accessing
from issuer.approving import Approving
from issuer.core.claims import TokenProfile
from issuer.core.exchange import ExchangeRules
from issuer.core.own_token import OwnTokens
from issuer.evidencing import Evidencing
from issuer.exchanging import Exchanging
from issuer.introspection import Introspection
from issuer.issuance import Issuance
from issuer.kept_policies import KeptPolicies
from issuer.ledger.decision_book import LedgerDecisionBook
from issuer.ledger.token_book import LedgerTokenBook
from issuer.ledger_keeping import LedgerKeeping, ledger_reader
from issuer.redeeming import Redeeming
from issuer.registering import IntentLimits, Registering
from issuer.revocation_feed import RevocationFeed
from issuer.revoking import Revoking
from issuer.rpc.access_methods import AccessMethods
from issuer.rpc.approval_methods import ApprovalMethods
from issuer.rpc.decision_methods import DecisionMethods
from issuer.rpc.intent_methods import IntentMethods
from issuer.rpc.key_methods import KeyMethods
from issuer.rpc.methods import IssuerMethods
from issuer.rpc.report_methods import ReportMethods
from issuer.rpc.revocation_methods import RevocationMethods
from issuer.rpc.services import Services
from issuer.settings_of_parts import evidence_rules, key_terms
from issuer.status_entries import StatusEntries

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from structlog.typing import FilteringBoundLogger

    from issuer.config_sections import Config
    from issuer.core.foreign_keys import ForeignKey
    from issuer.core.spiffe_id import TrustDomain
    from issuer.ports import AssertionVerifier, Clock, FactBook, Ids, KeyAdmin, PolicyBook
    from issuer.rpc.roles import Roles
    from issuer.signing.signing_keys import SigningKeys


class Parts(NamedTuple):
    """What there is one of in an issuer.

    Attributes:
        config: What it was told.
        clock: The time.
        ids: Where identifiers come from.
        policies: The policy in force.
        facts: What feeders told.
        signer: The keys at work.
        keys: Changes them.
        keeping: The ledger.
        jwt_authorities: Returns the keys of a trust domain's JWT-SVIDs; ``None`` where it is not heard.
        assertions: What verifies the tokens of configured OIDC issuers.
        roles: Who may administer.
        development: It serves the embedded development authority.
    """

    config: Config
    clock: Clock
    ids: Ids
    policies: PolicyBook
    facts: FactBook
    signer: SigningKeys
    keys: KeyAdmin
    keeping: LedgerKeeping
    jwt_authorities: Callable[[TrustDomain], Mapping[str, ForeignKey] | None]
    assertions: AssertionVerifier
    roles: Roles
    development: bool


def services(parts: Parts) -> Services:
    """Return the methods, over the parts."""
    keeping = parts.keeping
    reader = ledger_reader(parts.config.ledger)
    decisions, tokens = LedgerDecisionBook(reader, KeptPolicies(reader).get), LedgerTokenBook(reader)
    revoking = Revoking(ledger=keeping.ledger, revocations=keeping.revocations, tokens=tokens, ids=parts.ids)
    approving, issuance = _approving(parts), _issuance(parts)
    accessing = _accessing(parts, issuance)
    introspection = Introspection(
        own=_own_tokens(parts),
        policies=parts.policies,
        revocations=keeping.revocations,
        tokens=tokens,
        is_current=lambda: keeping.ledger.fault is None,
    )
    methods = IssuerMethods(
        issuance=issuance,
        exchanging=Exchanging(
            rules=ExchangeRules(parts.config.issuer.url, parts.config.exchange.max_depth),
            introspection=introspection,
            issuance=issuance,
            revocations=keeping.revocations,
            tokens=tokens,
            authorities=parts.jwt_authorities,
            assertions=parts.assertions,
        ),
        approving=approving,
        accessing=accessing,
        signer=parts.signer,
        key_set_max_age=parts.config.http.key_set_max_age,
        introspection=introspection,
        revoking=revoking,
        feed=RevocationFeed(
            revocations=keeping.revocations,
            policies=parts.policies,
            tokens=tokens,
            clock=parts.clock,
            is_current=lambda: keeping.ledger.fault is None,
            issuer=parts.config.issuer.url,
            ledger=lambda: keeping.ledger.store or "",
        ),
    )
    return Services(
        methods=methods,
        decisions=DecisionMethods(decisions),
        reports=ReportMethods(decisions, parts.policies),
        revocations=RevocationMethods(revoking),
        approvals=ApprovalMethods(approving=approving, tokens=tokens, roles=parts.roles),
        accesses=AccessMethods(accessing=accessing, approving=approving, tokens=tokens, roles=parts.roles),
        intents=_intents(parts, issuance),
        keys=KeyMethods(parts.keys, key_terms(parts.config).max_age),
    )


def _own_tokens(parts: Parts) -> OwnTokens:
    keys = parts.signer
    own = OwnTokens(keys.public_keys().jwks.decode(), parts.config.issuer.url)
    keys.watch(lambda: own.use(keys.public_keys().jwks.decode()))
    return own


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
        evidencing=Evidencing(parts.assertions, evidence_rules(parts.config.approvals)),
        development=parts.development,
    )


def _accessing(parts: Parts, issuance: Issuance) -> Accessing:
    return Accessing(
        issuance=issuance,
        policies=parts.policies,
        ids=parts.ids,
        ledger=parts.keeping.ledger,
        accesses=parts.keeping.accesses,
    )


def access_watch(parts: Parts, changed: asyncio.Event, log: FilteringBoundLogger) -> AccessWatch:
    """Return what ends windows of access that do not hold any more.

    Args:
        parts: The parts.
        changed: Is set whenever facts or the policy changed; ledger and books tell by themselves.
        log: Where it reports.
    """
    return AccessWatch(
        policies=parts.policies,
        facts=parts.facts,
        ids=parts.ids,
        ledger=parts.keeping.ledger,
        revocations=parts.keeping.revocations,
        approvals=parts.keeping.approvals,
        accesses=parts.keeping.accesses,
        clock=parts.clock,
        changed=changed,
        log=log,
    )


def _intents(parts: Parts, issuance: Issuance) -> IntentMethods:
    keeping, section = parts.keeping, parts.config.intents
    registering = Registering(
        issuance=issuance,
        ids=parts.ids,
        ledger=keeping.ledger,
        revocations=keeping.revocations,
        intents=keeping.intents,
        limits=IntentLimits(section.max_window, section.max_open),
    )
    redeeming = Redeeming(
        issuance=issuance,
        policies=parts.policies,
        facts=parts.facts,
        ids=parts.ids,
        revocations=keeping.revocations,
        intents=keeping.intents,
    )
    return IntentMethods(registering=registering, redeeming=redeeming, roles=parts.roles)
