"""One audience, grant, prohibition or risk tier from its mapping in a file, into the draft.

A wrong field is reported and read as something harmless, so that the other fields are checked too; the fault then
prevents the whole policy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from issuer.core import policy_values
from issuer.core.index import ANY_AUDIENCE
from issuer.core.policy import AudienceRule, GrantRule, ProhibitionRule, RiskTier, ScopeRule, TierRules
from issuer.core.policy_draft import DEFAULT_TIERS, GrantReferences, ProhibitionReferences
from issuer.core.policy_faults import quoted
from issuer.core.policy_fields import Fields
from issuer.core.policy_references import check_grant
from issuer.core.token_request import GrantType
from issuer.core.yaml_reader import SequenceNode

if TYPE_CHECKING:
    from issuer.core.patterns import WorkloadPattern
    from issuer.core.policy_draft import PolicyDraft
    from issuer.core.policy_fields import Source
    from issuer.core.yaml_reader import Node, Scalar

_AUDIENCE: Final = ("name", "application", "max_ttl", "scopes")
_SCOPE: Final = ("name", "risk", "max_ttl")
_GRANT: Final = (
    "id", "workloads", "application", "audience", "scopes", "grant_types", "max_ttl", "not_before", "expires",
    "owner", "description",
)  # fmt: skip
_PROHIBITION: Final = ("id", "workloads", "audiences", "scopes", "owner", "description")
_TIER: Final = ("max_ttl", "proof_binding")
_BINDING: Final = ("optional", "required")
_RISKS: Final = tuple(tier.value for tier in RiskTier)
_GRANT_TYPES: Final = tuple(kind.value for kind in GrantType)
_DEFAULT_GRANT_TYPES: Final = frozenset({GrantType.CLIENT_CREDENTIALS})


def read_audience(draft: PolicyDraft, source: Source, node: Node) -> None:
    """Read an entry of ``audiences``."""
    fields = Fields(source, node, "audience", _AUDIENCE)
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
    )
    if name is None or scalar is None:
        return
    first = draft.audiences.setdefault(name, rule)
    if first is not rule:
        source.report(scalar, f"the audience {quoted(name)} is declared already, at {first.source}")


def _scopes(draft: PolicyDraft, fields: Fields) -> dict[str, ScopeRule]:
    node = fields.node_of("scopes")
    scopes: dict[str, ScopeRule] = {}
    if not fields.is_mapping:
        return scopes
    if not isinstance(node, SequenceNode) or not node.items:
        fields.source.report(node or fields.node, "audience: 'scopes' must be a list of at least one scope")
        return scopes
    for item in node.items:
        rule = _scope(draft, Fields(fields.source, item, "scope", _SCOPE))
        if scopes.setdefault(rule.name, rule) is not rule:
            fields.source.report(item, f"the scope {quoted(rule.name)} is declared twice")
    return scopes


def _scope(draft: PolicyDraft, fields: Fields) -> ScopeRule:
    risk = fields.one_of(fields.required("risk"), "risk", _RISKS)
    return ScopeRule(
        name=fields.source.converted(fields.required("name"), "scope: 'name'", draft.values.scope) or "",
        risk=RiskTier(risk) if risk else RiskTier.CRITICAL,
        max_ttl=draft.ttl(fields.source, fields.scalar("max_ttl"), "scope: 'max_ttl'"),
    )


def read_grant(draft: PolicyDraft, source: Source, node: Node) -> None:
    """Read an entry of ``grants``."""
    fields = Fields(source, node, "grant", _GRANT)
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
    )
    if expires and rule.expires and rule.not_before and rule.expires <= rule.not_before:
        source.report(expires, "grant: 'expires' is not after 'not_before': the grant would never apply")
    draft.grants.append(rule)
    draft.add_rule(rule, id_node)
    references = GrantReferences(source, audience, scopes)
    if rule.audience in draft.audiences:
        check_grant(draft, references)
    else:
        draft.open_grants.append(references)


def _rule_id(fields: Fields, node: Scalar | None) -> str:
    return fields.source.converted(node, f"{fields.what}: 'id'", policy_values.rule_id) or ""


def _workloads(draft: PolicyDraft, fields: Fields) -> tuple[WorkloadPattern, ...]:
    what = f"{fields.what}: 'workloads'"
    nodes = fields.required_scalars("workloads")
    patterns = (fields.source.converted(node, what, draft.values.pattern) for node in nodes)
    return tuple(pattern for pattern in patterns if pattern is not None)


def _grant_types(fields: Fields) -> frozenset[GrantType]:
    words = [fields.one_of(node, "grant_types", _GRANT_TYPES) for node in fields.scalars("grant_types")]
    return frozenset(GrantType(word) for word in words if word) or _DEFAULT_GRANT_TYPES


def read_prohibition(draft: PolicyDraft, source: Source, node: Node) -> None:
    """Read an entry of ``prohibitions``."""
    fields = Fields(source, node, "prohibition", _PROHIBITION)
    values = draft.values
    audiences = fields.required_scalars("audiences")
    scopes = fields.scalars("scopes")
    id_node = fields.required("id")
    rule = ProhibitionRule(
        id=_rule_id(fields, id_node),
        workloads=_workloads(draft, fields),
        audiences=_prohibited_audiences(source, audiences),
        scopes=frozenset(scope.text for scope in scopes) if scopes else None,
        owner=source.converted(fields.scalar("owner"), "prohibition: 'owner'", values.owner),
        description=source.converted(fields.scalar("description"), "prohibition: 'description'", values.description),
        source=source.position(node),
    )
    draft.prohibitions.append((rule, ProhibitionReferences(source, audiences, scopes)))
    draft.add_rule(rule, id_node)


def _prohibited_audiences(source: Source, nodes: list[Scalar]) -> tuple[str, ...]:
    names = tuple(node.text for node in nodes)
    if ANY_AUDIENCE in names and len(names) > 1:
        source.report(nodes[0], f"prohibition: {ANY_AUDIENCE!r} names every audience: write it alone")
    return names


def read_tier(draft: PolicyDraft, source: Source, key: Scalar, node: Node) -> None:
    """Read one entry of ``risk_tiers``; what it leaves out keeps its default."""
    fields = Fields(source, node, f"risk tier {quoted(key.text)}", _TIER)
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
    )
    first = draft.tiers.setdefault(tier, (rules, source.position(key)))
    if first[0] is not rules:
        source.report(key, f"the risk tier {key.text!r} is set already, at {first[1]}")
