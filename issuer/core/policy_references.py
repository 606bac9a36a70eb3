"""Checks the rules of a policy against each other: every name used must be declared, every lifetime possible."""

from __future__ import annotations

from typing import TYPE_CHECKING

from issuer.core.duration import format_duration
from issuer.core.index import ANY_AUDIENCE
from issuer.core.policy import RiskTier
from issuer.core.policy_faults import quoted
from issuer.core.policy_folders import check_folders

if TYPE_CHECKING:
    from collections.abc import Mapping

    from issuer.core.policy import ScopeRule
    from issuer.core.policy_draft import AudienceReferences, GrantReferences, PolicyDraft
    from issuer.core.policy_fields import Source
    from issuer.core.yaml_reader import Scalar


_NEVER_LEGACY = frozenset({RiskTier.HIGH, RiskTier.CRITICAL})


def check_references(draft: PolicyDraft) -> None:
    """Report every use of a name that nothing declares, and every lifetime below ``min_ttl``."""
    for references in draft.open_grants:
        check_grant(draft, references)
    for taking_away in draft.audience_references:
        _check_audiences(draft, taking_away)
    for source, audience in draft.folder_audiences:
        if audience.text not in draft.audiences:
            _report_audience(draft, source, audience)
    for source, environment in draft.audience_environments:
        if environment.text not in draft.environments:
            message = f"no environment {quoted(environment.text)} is declared"
            source.report_unknown(environment, message, draft.environments)
    check_folders(draft)
    _check_ttls(draft)


def check_grant(draft: PolicyDraft, references: GrantReferences) -> None:
    """Report an audience of a grant that nothing declares, or scopes that its audience does not."""
    if references.audience is None:
        return
    declared = draft.audiences.get(references.audience.text)
    if declared is None:
        _report_audience(draft, references.source, references.audience)
        return
    for scope in references.scopes:
        _check_scope(
            references.source, scope, declared.scopes, f"the audience {quoted(declared.name)} declares no scope"
        )
        rule = declared.scopes.get(scope.text)
        if references.legacy is not None and rule is not None and rule.risk in _NEVER_LEGACY:
            references.source.report(scope, f"legacy: never for a scope of risk {rule.risk.value}")


def _check_audiences(draft: PolicyDraft, references: AudienceReferences) -> None:
    scopes: dict[str, ScopeRule] = {}
    for audience in references.audiences:
        if audience.text == ANY_AUDIENCE:
            scopes.update((scope, rule) for each in draft.audiences.values() for scope, rule in each.scopes.items())
        elif declared := draft.audiences.get(audience.text):
            scopes.update(declared.scopes)
        else:
            _report_audience(draft, references.source, audience)
            return  # which scopes it would have declared cannot be known
    for scope in references.scopes:
        _check_scope(references.source, scope, scopes, f"no audience of this {references.what} declares the scope")


def _report_audience(draft: PolicyDraft, source: Source, audience: Scalar) -> None:
    source.report_unknown(audience, f"no audience {quoted(audience.text)} is declared", draft.audiences)


def _check_scope(source: Source, scope: Scalar, declared: Mapping[str, ScopeRule], message: str) -> None:
    if scope.text not in declared:
        source.report_unknown(scope, f"{message} {quoted(scope.text)}", declared)


def _check_ttls(draft: PolicyDraft) -> None:
    """A lifetime below ``min_ttl`` would be a rule that refuses everything it seems to allow."""
    shortest = draft.merged_min_ttl()
    for duration, position in draft.short_ttls:
        if duration < shortest:
            least = format_duration(shortest)
            draft.faults.add(
                position, f"{format_duration(duration)} is below 'min_ttl' ({least}), the least a token lives"
            )
