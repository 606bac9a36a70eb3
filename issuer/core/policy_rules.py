"""One audience, grant, prohibition or risk tier from its mapping in a file, into the draft.

A wrong field is reported and read as something harmless, so that the other fields are checked too; the fault then
prevents the whole policy.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from issuer.core import policy_values
from issuer.core.duration import format_duration
from issuer.core.index import ANY_AUDIENCE
from issuer.core.policy import (
    Approval,
    AudienceRule,
    GrantRule,
    Legacy,
    LimitRule,
    Mode,
    ProhibitionRule,
    RiskTier,
    ScopeRule,
    TierRules,
)
from issuer.core.policy_draft import DEFAULT_TIERS, AudienceReferences, GrantReferences, Links
from issuer.core.policy_faults import quoted
from issuer.core.policy_fields import Fields
from issuer.core.policy_references import check_grant
from issuer.core.policy_sections import read_patterns
from issuer.core.subjects import parse_subject
from issuer.core.token_request import GrantType
from issuer.core.yaml_reader import SequenceNode

if TYPE_CHECKING:
    from collections.abc import Callable

    from issuer.core.patterns import WorkloadPattern
    from issuer.core.policy_draft import PolicyDraft
    from issuer.core.policy_fields import Source
    from issuer.core.subjects import SubjectPattern
    from issuer.core.yaml_reader import Node, Scalar

AUDIENCE: Final = ("name", "application", "environment", "servers", "status", "max_ttl", "scopes")
SCOPE: Final = ("name", "risk", "max_ttl", "approval")
APPROVAL: Final = ("approvers", "quorum", "valid_for", "uses", "human")
GRANT: Final = (
    "id", "workloads", "groups", "environments", "application", "audience", "scopes", "grant_types", "subjects",
    "requires", "when", "window", "max_ttl", "not_before", "expires", "legacy", "mode", "owner", "description",
)  # fmt: skip
LEGACY: Final = ("reason", "owner", "expires", "max_ttl")
PROHIBITION: Final = (
    "id", "workloads", "groups", "audiences", "scopes", "requires", "when", "mode", "owner", "description",
)  # fmt: skip
LIMIT: Final = (
    "id", "workloads", "groups", "audiences", "scopes", "when", "max_ttl", "requires", "mode", "owner", "description",
)  # fmt: skip
TIER: Final = ("max_ttl", "proof_binding", "status", "requires", "approval")

MAX_QUORUM: Final = 10
MAX_USES: Final = 100
"""Of one approval: more tokens than that are a grant, and belong into the policy."""
MAX_APPROVAL: Final = timedelta(days=7)
MAX_WINDOW: Final = timedelta(hours=24)
"""Of access just in time: what is needed for longer is a grant with ``expires``, which people review."""
_MODES: Final = tuple(mode.value for mode in Mode)
_BINDING: Final = ("optional", "required")
TRUTH: Final = ("true", "false")
_STATUS: Final = ("none", "required")
_RISKS: Final = tuple(tier.value for tier in RiskTier)
_GRANT_TYPES: Final = tuple(kind.value for kind in GrantType)
_DEFAULT_GRANT_TYPES: Final = frozenset({GrantType.CLIENT_CREDENTIALS})


def read_audience(draft: PolicyDraft, source: Source, node: Node) -> None:
    """Read an entry of ``audiences``."""
    fields = Fields(source, node, "audience", AUDIENCE)
    name = source.converted(scalar := fields.required("name"), "audience: 'name'", draft.values.audience)
    rule = AudienceRule(
        name=name or "",
        application=source.converted(
            fields.required("application"), "audience: 'application'", draft.values.application
        )
        or "",
        max_ttl=draft.ttl(source, fields.scalar("max_ttl"), "audience: 'max_ttl'"),
        scopes=_scopes(draft, fields),
        source=source.position(node),
        environment=environment.text if (environment := fields.scalar("environment")) else None,
        servers=_servers(draft, fields),
        status_required=fields.word("status", _STATUS) == "required",
    )
    if environment is not None:
        draft.audience_environments.append((source, environment))
    if scalar is not None:
        draft.speak_of(source, scalar, scalar.text)
    if name is None or scalar is None:
        return
    first = draft.audiences.setdefault(name, rule)
    if first is not rule:
        source.report(scalar, f"the audience {quoted(name)} is declared already, at {first.source}")


def _servers(draft: PolicyDraft, fields: Fields) -> tuple[WorkloadPattern, ...]:
    if fields.node_of("servers") is None:
        return ()
    patterns = (
        fields.source.converted(scalar, "audience: 'servers'", draft.values.pattern)
        for scalar in fields.required_scalars("servers")
    )
    return tuple(pattern for pattern in patterns if pattern is not None)


def _scopes(draft: PolicyDraft, fields: Fields) -> dict[str, ScopeRule]:
    node = fields.node_of("scopes")
    scopes: dict[str, ScopeRule] = {}
    if not fields.is_mapping:
        return scopes
    if not isinstance(node, SequenceNode) or not node.items:
        fields.source.report(node or fields.node, "audience: 'scopes' must be a list of at least one scope")
        return scopes
    for item in node.items:
        rule = _scope(draft, Fields(fields.source, item, "scope", SCOPE))
        if scopes.setdefault(rule.name, rule) is not rule:
            fields.source.report(item, f"the scope {quoted(rule.name)} is declared twice")
    return scopes


def _scope(draft: PolicyDraft, fields: Fields) -> ScopeRule:
    risk = fields.one_of(fields.required("risk"), "risk", _RISKS)
    return ScopeRule(
        name=fields.source.converted(fields.required("name"), "scope: 'name'", draft.values.scope) or "",
        risk=RiskTier(risk) if risk else RiskTier.CRITICAL,
        max_ttl=draft.ttl(fields.source, fields.scalar("max_ttl"), "scope: 'max_ttl'"),
        approval=_approval(draft, fields),
    )


def _approval(draft: PolicyDraft, outer: Fields) -> Approval | None:
    node = outer.node_of("approval")
    if node is None:
        return None
    fields = Fields(outer.source, node, "approval", APPROVAL)
    approvers = [
        fields.source.converted(scalar, "approval: 'approvers'", draft.values.pattern)
        for scalar in fields.required_scalars("approvers")
    ]
    return Approval(
        approvers=tuple(pattern for pattern in approvers if pattern is not None),
        quorum=fields.source.converted(fields.scalar("quorum"), "approval: 'quorum'", _number_to(MAX_QUORUM)) or 1,
        valid_for=fields.source.converted(fields.required("valid_for"), "approval: 'valid_for'", _approval_age)
        or MAX_APPROVAL,
        uses=fields.source.converted(fields.scalar("uses"), "approval: 'uses'", _number_to(MAX_USES)) or 1,
        human=fields.one_of(fields.scalar("human"), "human", TRUTH) == "true",
    )


def _number_to(most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:4]) <= most):
            raise ValueError(f"a number from 1 to {most}")
        return int(text)

    return number


def _approval_age(text: str) -> timedelta:
    age = policy_values.ttl(text)
    if age > MAX_APPROVAL:
        raise ValueError(f"an approval can be used for at most {MAX_APPROVAL.days}d")
    return age


def read_grant(draft: PolicyDraft, source: Source, node: Node) -> None:
    """Read an entry of ``grants``."""
    fields = Fields(source, node, "grant", GRANT)
    values = draft.values
    audience = fields.required("audience")
    scopes = fields.required_scalars("scopes")
    id_node = fields.required("id")
    rule = GrantRule(
        id=_rule_id(fields, id_node),
        workloads=_workloads(draft, fields),
        application=source.converted(fields.scalar("application"), "grant: 'application'", values.application),
        audience=source.converted(audience, "grant: 'audience'", values.audience) or "",
        scopes=values.scope_set(frozenset(scope.text for scope in scopes)),
        grant_types=_grant_types(fields),
        max_ttl=draft.ttl(source, fields.scalar("max_ttl"), "grant: 'max_ttl'"),
        not_before=source.converted(fields.scalar("not_before"), "grant: 'not_before'", values.not_before),
        expires=source.converted(expires := fields.scalar("expires"), "grant: 'expires'", values.expires),
        owner=source.converted(fields.scalar("owner"), "grant: 'owner'", values.owner),
        description=source.converted(fields.scalar("description"), "grant: 'description'", values.description),
        source=source.position(node),
        legacy=_legacy(draft, fields),
        mode=_mode(fields),
        subjects=_subjects(fields),
        window=_window(draft, fields),
    )
    if rule.window is not None and GrantType.JIT not in rule.grant_types and (window := fields.scalar("window")):
        source.report(window, "grant: 'window' is for grants of type 'jit': name it in 'grant_types'")
    if audience is not None:
        draft.speak_of(source, audience, audience.text)
    _keep_links(draft, fields, rule.id)
    if expires and rule.expires and rule.not_before and rule.expires <= rule.not_before:
        source.report(expires, "grant: 'expires' is not after 'not_before': the grant would never apply")
    draft.grants.append(rule)
    draft.add_rule(rule, id_node)
    references = GrantReferences(source, audience, scopes, fields.node_of("legacy"))
    if rule.audience in draft.audiences:
        check_grant(draft, references)
    else:
        draft.open_grants.append(references)


def _rule_id(fields: Fields, node: Scalar | None) -> str:
    return fields.source.converted(node, f"{fields.what}: 'id'", policy_values.rule_id) or ""


def _workloads(draft: PolicyDraft, fields: Fields) -> tuple[WorkloadPattern, ...]:
    return read_patterns(draft, fields, required=fields.node_of("groups") is None)


def _mode(fields: Fields) -> Mode:
    return Mode(fields.word("mode", _MODES) or Mode.ENFORCE)


def _legacy(draft: PolicyDraft, outer: Fields) -> Legacy | None:
    """Read an exception: every field is required, for each is a question of its review."""
    node = outer.node_of("legacy")
    if node is None:
        return None
    fields = Fields(outer.source, node, "legacy", LEGACY)
    source, values = fields.source, draft.values
    ttl = fields.required("max_ttl")
    legacy = Legacy(
        reason=source.converted(fields.required("reason"), "legacy: 'reason'", values.description) or "",
        owner=source.converted(fields.required("owner"), "legacy: 'owner'", values.owner) or "",
        expires=source.converted(fields.required("expires"), "legacy: 'expires'", values.expires)
        or datetime.min.replace(tzinfo=UTC),
        max_ttl=draft.ttl(source, ttl, "legacy: 'max_ttl'") or timedelta(0),
    )
    ceiling = draft.legacy_ceiling
    if ceiling is None:
        source.report(node, "legacy: exceptions are off until the configuration sets 'legacy_max_ttl' under [policy]")
    elif ttl is not None and legacy.max_ttl > ceiling:
        source.report(
            ttl, f"legacy: 'max_ttl' is above {format_duration(ceiling)}, the 'legacy_max_ttl' of the configuration"
        )
    return legacy


def _window(draft: PolicyDraft, fields: Fields) -> timedelta | None:
    node = fields.scalar("window")
    window = draft.ttl(fields.source, node, "grant: 'window'")
    if node is not None and window is not None and window > MAX_WINDOW:
        fields.source.report(node, f"grant: 'window' is at most {format_duration(MAX_WINDOW)}")
    return window


def _keep_links(draft: PolicyDraft, fields: Fields, rule_id: str) -> None:
    """Remember what the rule says by name or in CEL. Most rules of a large policy say nothing so."""
    links = Links(
        fields.what,
        fields.source,
        tuple(fields.scalars("groups")),
        tuple(fields.scalars("environments")),
        tuple(fields.scalars("requires")),
        fields.scalar("when"),
    )
    if any(links[2:]):
        draft.links.setdefault(rule_id, links)


def _grant_types(fields: Fields) -> frozenset[GrantType]:
    words = [fields.one_of(node, "grant_types", _GRANT_TYPES) for node in fields.scalars("grant_types")]
    return frozenset(GrantType(word) for word in words if word) or _DEFAULT_GRANT_TYPES


def _subjects(fields: Fields) -> tuple[SubjectPattern, ...]:
    """Read whose tokens may be exchanged. Only of grants for that alone: any other way to a token has no subject."""
    node = fields.node_of("subjects")
    if node is None:
        return ()
    if _grant_types(fields) != {GrantType.TOKEN_EXCHANGE}:
        fields.source.report(node, "grant: 'subjects' is for grants whose 'grant_types' is [token_exchange]")
    patterns = [
        fields.source.converted(scalar, "grant: 'subjects'", parse_subject) for scalar in fields.scalars("subjects")
    ]
    return tuple(pattern for pattern in patterns if pattern is not None)


def read_prohibition(draft: PolicyDraft, source: Source, node: Node) -> None:
    """Read an entry of ``prohibitions``."""
    fields = Fields(source, node, "prohibition", PROHIBITION)
    values = draft.values
    audiences, scopes, id_node = _takes_from(draft, fields)
    rule = ProhibitionRule(
        id=_rule_id(fields, id_node),
        workloads=_workloads(draft, fields),
        audiences=audiences,
        scopes=scopes,
        owner=source.converted(fields.scalar("owner"), "prohibition: 'owner'", values.owner),
        description=source.converted(fields.scalar("description"), "prohibition: 'description'", values.description),
        source=source.position(node),
        mode=_mode(fields),
    )
    _keep_links(draft, fields, rule.id)
    draft.prohibitions.append(rule)
    draft.add_rule(rule, id_node)


def read_limit(draft: PolicyDraft, source: Source, node: Node) -> None:
    """Read an entry of ``limits``."""
    fields = Fields(source, node, "limit", LIMIT)
    values = draft.values
    audiences, scopes, id_node = _takes_from(draft, fields)
    fields.required("when")
    if fields.is_mapping and fields.node_of("max_ttl") is None and fields.node_of("requires") is None:
        source.report(node, "limit: 'max_ttl' or 'requires' is missing: it would limit nothing")
    rule = LimitRule(
        id=_rule_id(fields, id_node),
        workloads=_workloads(draft, fields),
        audiences=audiences,
        scopes=scopes,
        max_ttl=draft.ttl(source, fields.scalar("max_ttl"), "limit: 'max_ttl'"),
        requires=(),
        owner=source.converted(fields.scalar("owner"), "limit: 'owner'", values.owner),
        description=source.converted(fields.scalar("description"), "limit: 'description'", values.description),
        source=source.position(node),
        mode=_mode(fields),
    )
    _keep_links(draft, fields, rule.id)
    draft.limits.append(rule)
    draft.add_rule(rule, id_node)


def _takes_from(draft: PolicyDraft, fields: Fields) -> tuple[tuple[str, ...], frozenset[str] | None, Scalar | None]:
    """Read the audiences and scopes of a rule that takes away, and its id."""
    audiences, scopes = fields.required_scalars("audiences"), fields.scalars("scopes")
    names = tuple(node.text for node in audiences)
    if ANY_AUDIENCE in names and len(names) > 1:
        fields.source.report(audiences[0], f"{fields.what}: {ANY_AUDIENCE!r} names every audience: write it alone")
    draft.audience_references.append(AudienceReferences(fields.what, fields.source, audiences, scopes))
    for node in audiences:
        draft.speak_of(fields.source, node, node.text)
    return names, frozenset(scope.text for scope in scopes) if scopes else None, fields.required("id")


def read_tier(draft: PolicyDraft, source: Source, key: Scalar, node: Node) -> None:
    """Read one entry of ``risk_tiers``; what it leaves out keeps its default."""
    fields = Fields(source, node, f"risk tier {quoted(key.text)}", TIER)
    if key.text not in _RISKS:
        source.report_unknown(key, f"a risk tier is one of {', '.join(_RISKS)}, not {quoted(key.text)}", _RISKS)
        return
    tier = RiskTier(key.text)
    default = DEFAULT_TIERS[tier]
    ttl = fields.scalar("max_ttl")
    binding = fields.word("proof_binding", _BINDING)
    rules = TierRules(
        max_ttl=draft.ttl(source, ttl, f"{fields.what}: 'max_ttl'") or default.max_ttl,
        binding_required=default.binding_required if binding is None else binding == "required",
        approval=_approval(draft, fields),
        status_required=fields.word("status", _STATUS) == "required",
    )
    if requires := fields.scalars("requires"):
        draft.tier_links.setdefault(tier, Links(fields.what, source, (), (), tuple(requires), None))
    first = draft.tiers.setdefault(tier, (rules, source.position(key)))
    if first[0] is not rules:
        source.report(key, f"the risk tier {key.text!r} is set already, at {first[1]}")
