"""From the files of a policy to a :class:`~issuer.core.policy.Policy`: whole or not at all, every fault at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from issuer.core.duration import format_duration
from issuer.core.policy import Policy
from issuer.core.policy_approvers import check_approvers
from issuer.core.policy_digest import PolicyParts, policy_digest
from issuer.core.policy_draft import MAX_MIN_TTL, PolicyDraft
from issuer.core.policy_faults import FaultList, Position, quoted
from issuer.core.policy_fields import Source
from issuer.core.policy_links import Linker
from issuer.core.policy_references import check_references
from issuer.core.policy_rules import read_audience, read_grant, read_limit, read_prohibition, read_tier
from issuer.core.policy_sections import (
    read_condition,
    read_environment,
    read_fact_type,
    read_folder,
    read_group,
)
from issuer.core.yaml_reader import MappingNode, Scalar, SequenceNode, YamlFault, read_entries

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

    from issuer.core.spiffe_id import SpiffeId
    from issuer.core.yaml_reader import Entry, Node


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A file of policy: the name that faults show, and its bytes."""

    name: str
    content: bytes


def parse_policy(
    files: Iterable[PolicyFile],
    *,
    legacy_ceiling: timedelta | None = None,
    feeders: Iterable[SpiffeId] = (),
    gateways: Iterable[SpiffeId] = (),
) -> Policy:
    """Return the policy that the files make together; their order does not matter.

    Args:
        files: Their names are relative to the policy's folder, with ``/``.
        legacy_ceiling: The longest lifetime that an exception may have; ``None`` allows no exception.
        feeders: Who tells facts; they may not approve.
        gateways: Who brings evidence of approvers; they may not approve themselves.

    Raises:
        PolicyInvalid: With all faults of all files, up to the bound.
    """
    faults = FaultList()
    draft = PolicyDraft(faults, legacy_ceiling)
    for file in files:
        _read_file(draft, Source(file.name, faults, file.content), file.content)
    check_references(draft)
    draft.rules.clear()  # the last use of a second list of all rules
    linker = Linker(draft)
    parts = PolicyParts(
        audiences=draft.audiences,
        risk_tiers=linker.linked_tiers(draft.merged_tiers()),
        min_ttl=draft.merged_min_ttl(),
        grants=linker.grants(),
        prohibitions=linker.prohibitions(),
        limits=linker.limits(),
        fact_types=draft.fact_types,
        environments=tuple(draft.environments.values()),
    )
    check_approvers(faults, draft.approvals(), parts.grants, feeders, gateways)
    faults.raise_if_any()
    return Policy(
        **parts._asdict(),
        digest=policy_digest(parts),
        groups=draft.groups,
        named_conditions=linker.named,
        folders=tuple(draft.folders.values()),
        engine=linker.engine,
    )


def _read_file(draft: PolicyDraft, source: Source, content: bytes) -> None:
    def report(line: int, column: int, message: str) -> None:
        source.faults.add(Position(source.name, line, column), message)

    has_version = False
    try:
        for entry in read_entries(content, report):
            has_version = has_version or entry.key.text == "version"
            _read_entry(draft, source, entry)
    except YamlFault as fault:
        report(fault.line, fault.column, fault.message)
    else:
        if not has_version:
            report(1, 1, "'version: 1' is missing")


def _read_entry(draft: PolicyDraft, source: Source, entry: Entry) -> None:
    section, node = entry.key.text, entry.node
    if section in _NOT_FOR_TEAMS and not entry.is_item:
        draft.speak_of(source, entry.key, None)
    if section == "folders" and not entry.is_item and "/" in source.name:
        source.report(entry.key, "'folders' stands in a file at the top of the policy's folder, where no team writes")
    if read_rule := _RULES.get(section):
        if entry.is_item:
            read_rule(draft, source, node)
        elif not isinstance(node, SequenceNode):
            source.report(node, f"{section!r} must be a list")
    elif entry.is_item:
        return  # the list itself was reported when it began
    elif read_section := _WHOLE.get(section):
        read_section(draft, source, node)
    else:
        source.report_unknown(entry.key, f"unknown key {quoted(section)}", _SECTIONS)


def _check_version(_: PolicyDraft, source: Source, node: Node) -> None:
    if not (isinstance(node, Scalar) and node.plain and node.text == "1"):
        source.report(node, "'version' must be 1, the only version of the language there is")


def _read_min_ttl(draft: PolicyDraft, source: Source, node: Node) -> None:
    if not isinstance(node, Scalar):
        source.report(node, "'min_ttl' must be a single value, as in '10s'")
        return
    duration = source.converted(node, "'min_ttl'", draft.values.ttl)
    if duration is None:
        return
    if draft.min_ttl is not None:
        source.report(node, f"'min_ttl' is set already, at {draft.min_ttl[1]}")
    draft.min_ttl = (duration, source.position(node))
    if duration > MAX_MIN_TTL:
        source.report(node, f"'min_ttl' is at most {format_duration(MAX_MIN_TTL)}")


def _read_tiers(draft: PolicyDraft, source: Source, node: Node) -> None:
    if not isinstance(node, MappingNode):
        source.report(node, "'risk_tiers' must be a mapping of tiers")
        return
    for key, rules in node.entries.values():
        read_tier(draft, source, key, rules)


_RULES: Final = {
    "audiences": read_audience,
    "grants": read_grant,
    "prohibitions": read_prohibition,
    "limits": read_limit,
    "groups": read_group,
    "conditions": read_condition,
    "facts": read_fact_type,
    "environments": read_environment,
    "folders": read_folder,
}
_WHOLE: Final = {"version": _check_version, "min_ttl": _read_min_ttl, "risk_tiers": _read_tiers}
_SECTIONS: Final = (*_WHOLE, *_RULES)
_NOT_FOR_TEAMS: Final = frozenset({"min_ttl", "risk_tiers", "facts", "environments", "folders"})
