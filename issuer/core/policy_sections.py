"""What rules refer to by name (environments, groups, types of facts, conditions) and who owns which folder."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from issuer.core import policy_values
from issuer.core.facts import FactType, FieldType, SubjectKind
from issuer.core.policy import Environment, Folder, Group
from issuer.core.policy_draft import NamedCondition
from issuer.core.policy_fields import Fields
from issuer.core.yaml_reader import MappingNode, Scalar

if TYPE_CHECKING:
    from issuer.core.patterns import WorkloadPattern
    from issuer.core.policy_draft import PolicyDraft
    from issuer.core.policy_fields import Source
    from issuer.core.yaml_reader import Node

ENVIRONMENT: Final = ("name", "workloads")
GROUP: Final = ("name", "workloads", "owner", "description")
FACT: Final = ("name", "subject", "max_age", "fields", "description")
CONDITION: Final = ("name", "when", "owner", "description")
FOLDER: Final = ("path", "audiences")

MAX_FACT_AGE: Final = timedelta(days=31)
_WORD = re.compile(r"[a-z][a-z0-9_]{0,63}")
# cel-spec, "Identifiers": a field that CEL cannot name could never be read.
NOT_A_FIELD: Final = frozenset({"in", "true", "false", "null", "as", "break", "const", "continue", "else", "for",
    "function", "if", "import", "let", "loop", "package", "namespace", "return", "var", "void", "while"})  # fmt: skip
_SUBJECTS: Final = tuple(kind.value for kind in SubjectKind)
_TYPES: Final = tuple(kind.value for kind in FieldType)


def read_environment(draft: PolicyDraft, source: Source, node: Node) -> None:
    """Read an entry of ``environments``."""
    fields = Fields(source, node, "environment", ENVIRONMENT)
    name = _name(fields)
    rule = Environment(name.text if name else "", read_patterns(draft, fields, required=True), source.position(node))
    draft.declare(draft.environments, source, name, "environment", rule)


def read_group(draft: PolicyDraft, source: Source, node: Node) -> None:
    """Read an entry of ``groups``."""
    fields = Fields(source, node, "group", GROUP)
    name = _name(fields)
    group = Group(
        name=name.text if name else "",
        workloads=read_patterns(draft, fields, required=True),
        owner=source.converted(fields.scalar("owner"), "group: 'owner'", draft.values.owner),
        description=source.converted(fields.scalar("description"), "group: 'description'", draft.values.description),
        source=source.position(node),
    )
    draft.declare(draft.groups, source, name, "group", group)


def read_condition(draft: PolicyDraft, source: Source, node: Node) -> None:
    """Read an entry of ``conditions``; it is compiled when every type of fact is known."""
    fields = Fields(source, node, "condition", CONDITION)
    name, when = _name(fields), fields.required("when")
    source.converted(fields.scalar("owner"), "condition: 'owner'", draft.values.owner)
    source.converted(fields.scalar("description"), "condition: 'description'", draft.values.description)
    if when is not None:
        draft.declare(draft.named, source, name, "condition", NamedCondition(when, source, source.position(node)))


def read_fact_type(draft: PolicyDraft, source: Source, node: Node) -> None:
    """Read an entry of ``facts``: a type of fact."""
    fields = Fields(source, node, "fact", FACT)
    name = fields.required("name")
    subject = fields.one_of(fields.required("subject"), "subject", _SUBJECTS)
    fact_type = FactType(
        name=source.converted(name, "fact: 'name'", _word) or "",
        subject=SubjectKind(subject) if subject else SubjectKind.CALLER,
        fields=_field_types(fields),
        max_age=source.converted(fields.required("max_age"), "fact: 'max_age'", _age) or MAX_FACT_AGE,
        description=source.converted(fields.scalar("description"), "fact: 'description'", draft.values.description),
        source=source.position(node),
    )
    draft.declare(draft.fact_types, source, name, "type of fact", fact_type)


def _field_types(fields: Fields) -> dict[str, FieldType]:
    node = fields.node_of("fields")
    types: dict[str, FieldType] = {}
    if not fields.is_mapping:
        return types
    if not isinstance(node, MappingNode) or not node.entries:
        fields.source.report(node or fields.node, "fact: 'fields' must be a mapping of at least one field to its type")
        return types
    for word, (key, value) in node.entries.items():
        fields.source.converted(key, "fact: a field", _word)
        if not isinstance(value, Scalar):
            fields.source.report(value, f"fact: the type of a field is one of {', '.join(_TYPES)}")
        elif (kind := fields.one_of(value, word, _TYPES)) is not None:
            types[word] = FieldType(kind)
    return types


def read_folder(draft: PolicyDraft, source: Source, node: Node) -> None:
    """Read an entry of ``folders``: which audiences the files below a folder may speak of."""
    fields = Fields(source, node, "folder", FOLDER)
    path = fields.required("path")
    audiences = fields.required_scalars("audiences")
    for audience in audiences:
        source.converted(audience, "folder: 'audiences'", draft.values.audience)
    folder = Folder(
        path=source.converted(path, "folder: 'path'", _folder_path) or "",
        audiences=frozenset(audience.text for audience in audiences),
        source=source.position(node),
    )
    draft.folder_audiences.extend((source, audience) for audience in audiences)
    draft.declare(draft.folders, source, path, "folder", folder)


def read_patterns(draft: PolicyDraft, fields: Fields, *, required: bool) -> tuple[WorkloadPattern, ...]:
    """Read the ``workloads`` of a rule."""
    what = f"{fields.what}: 'workloads'"
    nodes = fields.required_scalars("workloads") if required else fields.scalars("workloads")
    patterns = (fields.source.converted(node, what, draft.values.pattern) for node in nodes)
    return tuple(pattern for pattern in patterns if pattern is not None)


def _name(fields: Fields) -> Scalar | None:
    name = fields.required("name")
    fields.source.converted(name, f"{fields.what}: 'name'", policy_values.rule_id)
    return name


def _word(text: str) -> str:
    if not _WORD.fullmatch(text) or text in NOT_A_FIELD:
        raise ValueError("a name in conditions is 1 to 64 of a-z, 0-9 and '_', first a letter, and no word of CEL")
    return text


def _age(text: str) -> timedelta:
    age = policy_values.ttl(text)
    if age > MAX_FACT_AGE:
        raise ValueError(f"a fact counts for at most {MAX_FACT_AGE.days}d")
    return age


def _folder_path(text: str) -> str:
    parts = text.split("/")
    if not all(parts) or {".", ".."} & set(parts):
        raise ValueError("a folder is written relative to the policy's folder, as in 'teams/payments'")
    return text
