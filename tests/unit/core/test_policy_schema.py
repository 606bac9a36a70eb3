"""The schemas for editors are held to the parser: the same keys, and the same files refused for their shape."""

from __future__ import annotations

import re
from copy import deepcopy
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from support.policies import AUDIENCES
from support.whole_policy import WHOLE

from issuer.core import policy_cases, policy_parser, policy_rules, policy_sections
from issuer.core.fact_reading import KEYS as FACT_KEYS
from issuer.core.policy_case_schema import KEYS as CASE_KEYS
from issuer.core.policy_case_schema import case_schema
from issuer.core.policy_cases import read_cases
from issuer.core.policy_faults import PolicyInvalid
from issuer.core.policy_parser import PolicyFile, parse_policy
from issuer.core.policy_schema import FILE, KEYS, policy_schema
from issuer.core.yaml_reader import Node, Scalar, SequenceNode, read_entries
from issuer.core.yaml_values import value_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = (Path(__file__).parents[3] / "docs" / "POLICY.md").read_text(encoding="utf-8")
POLICY = Draft202012Validator(policy_schema())
CASES = Draft202012Validator(case_schema())

CASE: dict[str, Any] = {
    "version": 1,
    "cases": [
        {
            "name": "a",
            "at": "2026-06-01T12:00:00Z",
            "caller": "spiffe://td/a",
            "svid_rest": "1h",
            "request": {
                "audience": "https://ledger.example",
                "scopes": ["read"],
                "application": "x",
                "ttl": "1m",
                "intent": {"operation": "o", "resource": "r", "workflow": "w", "ticket": "t", "transaction": "x"},
                "grant_type": "token_exchange",
                "subject": "https://login.example#a%7Cb",
                "allow_partial": True,
                "bind_certificate": False,
            },
            "facts": [
                {
                    "type": "change",
                    "subject": "CHG-1",
                    "values": {"approved": True},
                    "observed": "2026-06-01T12:00:00Z",
                    "expires": "2026-06-01T12:10:00Z",
                    "caller": "spiffe://td/a",
                    "audience": "https://ledger.example",
                }
            ],
            "expect": {
                "outcome": "granted",
                "reason": "FACT_MISSING",
                "scopes": [],
                "refused_scopes": ["read"],
                "lifetime": "1m",
                "lifetime_rule": "svid",
                "rules": ["g"],
                "application": "x",
                "bound": True,
                "missing": ["facts.risk.score"],
            },
        }
    ],
}
FACT_TYPES = parse_policy(
    [
        PolicyFile(
            "p.yaml",
            b"version: 1\nfacts: [{name: change, subject: ticket, max_age: 1h, fields: {approved: bool}}]\n",
        )
    ]
)


def document(text: str) -> dict[str, object]:
    """Return what an editor's YAML reads: JSON's values, and ``null`` where nothing stands."""

    def value(node: Node) -> object:
        if isinstance(node, SequenceNode):
            return [value(item) for item in node.items]
        if isinstance(node, Scalar):
            return None if node.has_no_value else value_of(node)
        return {word: value(item) for word, (_, item) in node.entries.items()}

    read: dict[str, Any] = {}
    for entry in read_entries(text.encode(), lambda *_: None):
        if entry.is_item:
            read[entry.key.text].append(value(entry.node))
        else:
            read[entry.key.text] = value(entry.node)
    return read


def policy_is_read(content: dict[str, Any]) -> bool:
    text = yaml.safe_dump(content, sort_keys=False).replace("version: '1'", "version: 1")
    try:
        parse_policy([PolicyFile("p.yaml", text.encode())], legacy_ceiling=timedelta(hours=4))
    except PolicyInvalid:
        return False
    return True


def cases_are_read(content: dict[str, Any]) -> bool:
    try:
        read_cases("a.test.yaml", yaml.safe_dump(content, sort_keys=False).encode(), FACT_TYPES.fact_types)
    except PolicyInvalid:
        return False
    return True


@pytest.mark.parametrize(
    ("kind", "table"),
    [
        ("risk tier", policy_rules.TIER),
        ("audience", policy_rules.AUDIENCE),
        ("scope", policy_rules.SCOPE),
        ("approval", policy_rules.APPROVAL),
        ("grant", policy_rules.GRANT),
        ("legacy", policy_rules.LEGACY),
        ("prohibition", policy_rules.PROHIBITION),
        ("limit", policy_rules.LIMIT),
        ("group", policy_sections.GROUP),
        ("condition", policy_sections.CONDITION),
        ("fact", policy_sections.FACT),
        ("environment", policy_sections.ENVIRONMENT),
        ("folder", policy_sections.FOLDER),
    ],
)
def test_has_the_keys_of_the_parser_in_their_order(kind: str, table: tuple[str, ...]) -> None:
    assert tuple(KEYS[kind]) == table


def test_has_every_section() -> None:
    assert tuple(FILE) == policy_parser._SECTIONS
    assert len(KEYS) == 13


def test_has_the_keys_of_cases() -> None:
    assert {kind: tuple(keys) for kind, keys in CASE_KEYS.items()} == {
        "case": policy_cases.CASE,
        "request": policy_cases.REQUEST,
        "intent": policy_cases._INTENT,
        "fact": FACT_KEYS,
        "expect": policy_cases.EXPECT,
    }


def test_is_a_schema_and_has_words_for_every_key() -> None:
    for schema in (policy_schema(), case_schema()):
        Draft202012Validator.check_schema(schema)
        assert schema["title"]
        for definition in [schema, *schema["$defs"].values()]:  # type: ignore[attr-defined]
            assert definition["additionalProperties"] is False
            assert all(key["description"] for key in definition["properties"].values())


def test_a_policy_with_every_key_is_good_to_both() -> None:
    assert list(POLICY.iter_errors(WHOLE)) == []
    assert policy_is_read(WHOLE)
    assert list(CASES.iter_errors(CASE)) == []
    assert cases_are_read(CASE)


def places(node: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of everything below ``node``."""
    members = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in members:
        yield (*path, key)
        yield from places(value, (*path, key))


def changed(content: dict[str, Any], path: tuple[str | int, ...], change: Callable[[Any, Any], None]) -> dict[str, Any]:
    copy = deepcopy(content)
    parent: Any = copy
    for step in path[:-1]:
        parent = parent[step]
    change(parent, path[-1])
    return copy


def remove(parent: Any, key: Any) -> None:
    del parent[key]


def void(parent: Any, key: Any) -> None:
    parent[key] = None


def wrap(parent: Any, key: Any) -> None:
    parent[key] = {"x": parent[key]}


def listed(parent: Any, key: Any) -> None:
    parent[key] = [[parent[key]]]


def empty(parent: Any, key: Any) -> None:
    parent[key] = []


def misspell(parent: Any, key: Any) -> None:
    parent[f"{key}x"] = parent.pop(key)


DAMAGES = [void, wrap, listed, empty]


@pytest.mark.parametrize("damage", DAMAGES)
def test_refuses_the_shapes_that_the_parser_refuses(damage: Callable[[Any, Any], None]) -> None:
    """And no others: every value of a whole policy, and of a whole file of cases, damaged one by one."""
    for content, read, validator in ((WHOLE, policy_is_read, POLICY), (CASE, cases_are_read, CASES)):
        for path in places(content):
            if path[:3] == ("cases", 0, "facts") and "values" in path:
                continue  # depends on the types that the policy declares
            if damage is empty and is_referred_to(path):
                continue
            broken = changed(content, path, damage)
            assert not validator.is_valid(broken) or read(broken), f"the schema takes {damage.__name__} at {path}"


def test_refuses_misspelled_and_missing_keys_as_the_parser_does() -> None:
    for content, read, validator in ((WHOLE, policy_is_read, POLICY), (CASE, cases_are_read, CASES)):
        for path in places(content):
            if not isinstance(path[-1], str) or path[-2:-1] in {("fields",), ("values",)}:
                continue
            assert not validator.is_valid(changed(content, path, misspell)), path
            removed = changed(content, path, remove)
            if read(removed):
                assert validator.is_valid(removed), f"the schema wants {path}"
            elif not is_referred_to(path):
                assert not validator.is_valid(removed), f"the schema does not want {path}"


def is_referred_to(path: tuple[str | int, ...]) -> bool:
    """Say whether something is missed only because of what else is declared, which a schema cannot see."""
    if path[:1] == ("cases",):
        if path[2:] == ("request", "grant_type"):  # for its subject
            return True
        return path[2:] in {("facts", 0, "caller"), ("facts", 0, "audience")}  # for subjects that callers choose
    if path == ("grants", 1, "grant_types"):  # for its subjects
        return True
    return path in {("audiences",), ("groups",), ("conditions",), ("facts",), ("environments",)}


SECTIONS = {
    "audience": "audiences: [{{name: 'https://a.example', application: a, scopes: [{{name: r, risk: low}}], {}}}]",
    "scope": "audiences: [{{name: 'https://a.example', application: a, scopes: [{{name: r, risk: low, {}}}]}}]",
    "grant": "grants: [{{id: g, workloads: ['spiffe://td/a'], audience: https://ledger.example, scopes: [read], {}}}]",
    "tier": "risk_tiers: {{low: {{{}}}}}",
    "fact": "facts: [{{name: a, subject: caller, max_age: 1h, fields: {{a: int}}, {}}}]",
}
BAD = [
    ("", "version: 2"),
    ("", "min_ttl: 10"),
    ("", "min_ttl: 0s"),
    ("", "min_ttl: 10 s"),
    ("", "risk_tiers: {extreme: {max_ttl: 1m}}"),
    ("", "grants: [text]"),
    ("", "grants: {id: g}"),
    ("", "rules: []"),
    ("", "environments: [{name: 'a b', workloads: ['spiffe://td/**']}]"),
    ("", "environments: [{name: a, workloads: []}]"),
    ("", "groups: [{name: a, workloads: ['spiffe://td/a', 'spiffe://td/a']}]"),
    ("", "folders: [{path: ../a, audiences: ['https://ledger.example']}]"),
    ("", "folders: [{path: a//b, audiences: ['https://ledger.example']}]"),
    ("", "facts: [{name: in, subject: caller, max_age: 1h, fields: {a: int}}]"),
    ("", "facts: [{name: a, subject: caller, max_age: 1h, fields: {A: int}}]"),
    ("", "facts: [{name: a, subject: caller, max_age: 1h, fields: {a: text}}]"),
    ("", "facts: [{name: a, subject: caller, max_age: 1h, fields: {}}]"),
    ("", "facts: [{name: a, subject: nobody, max_age: 1h, fields: {a: int}}]"),
    ("", "prohibitions: [{id: p, workloads: ['spiffe://td/a'], audiences: ['*', 'https://ledger.example']}]"),
    ("", "prohibitions: [{id: p, audiences: ['*']}]"),
    ("", "limits: [{id: l, workloads: ['spiffe://td/a'], audiences: ['*'], when: 'true'}]"),
    ("", "limits: [{id: l, workloads: ['spiffe://td/a'], audiences: ['*'], max_ttl: 1m}]"),
    *(
        ("", f"groups: [{{name: a, workloads: [{pattern!r}]}}]")
        for pattern in (
            "td/a", "SPIFFE://td/a", "spiffe://td", "spiffe://td/", "spiffe://*/a", "spiffe://td/a*", "spiffe://td/**/a",
            "spiffe://td/../a", "spiffe://td/a/.", "spiffe://td/a//b", "spiffe://TD/a", "spiffe://td/a b", "*",
        )
    ),
    ("audience", "owner: x"),
    ("audience", "max_ttl: soon"),
    ("scope", "approval: {approvers: ['spiffe://td/a']}"),
    ("scope", "approval: {approvers: ['spiffe://td/a'], valid_for: 1h, quorum: 0}"),
    ("scope", "approval: {approvers: ['spiffe://td/a'], valid_for: 1h, quorum: 11}"),
    ("scope", "approval: {approvers: ['spiffe://td/a'], valid_for: 1h, quorum: two}"),
    ("scope", "approval: {approvers: ['spiffe://td/a'], valid_for: 1h, uses: 0}"),
    ("scope", "approval: {approvers: ['spiffe://td/a'], valid_for: 1h, uses: 101}"),
    ("scope", "approval: {approvers: ['spiffe://td/a'], valid_for: 1h, human: 1}"),
    ("scope", "approval: {approvers: ['spiffe://td/a'], valid_for: 1h, human: sure}"),
    ("scope", "approval: {approvers: [], valid_for: 1h}"),
    ("grant", "application: 'a b'"),
    ("grant", "grant_types: [password]"),
    ("grant", "mode: off"),
    ("grant", "expires: tomorrow"),
    ("grant", "expires: 2026-12-31T12:00:00"),
    ("grant", "legacy: {reason: r, owner: o, expires: 2026-12-31}"),
    ("grant", "description: [text]"),
    ("tier", "proof_binding: always"),
    ("fact", "description: {a: b}"),
]  # fmt: skip


@pytest.mark.parametrize(("section", "text"), BAD)
def test_bad_files_are_refused_by_both(section: str, text: str) -> None:
    whole = SECTIONS[section].format(text) if section else text
    begin = AUDIENCES if whole.startswith(("grants", "prohibitions", "limits", "folders")) else "version: 1\n"
    if text.startswith("version"):
        begin = ""
    with pytest.raises(PolicyInvalid):
        parse_policy([PolicyFile("p.yaml", (begin + whole).encode())], legacy_ceiling=timedelta(hours=4))
    assert not POLICY.is_valid(document(begin + whole))


EXAMPLES = re.findall(r"^```yaml( legacy| cases)?\n((?:.*\n)*?)```$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("kind", "text"), EXAMPLES)
def test_every_example_of_the_page_is_valid(kind: str, text: str) -> None:
    errors = [error.message for error in (CASES if kind == " cases" else POLICY).iter_errors(document(text))]
    assert errors == []


def test_what_init_writes_is_valid() -> None:
    folder = files("issuer.policy_files")
    assert POLICY.is_valid(document(folder.joinpath("starter.yaml").read_text("utf-8")))
    assert CASES.is_valid(document(folder.joinpath("starter.test.yaml").read_text("utf-8")))


def table() -> list[str]:
    """Return the rows of "Every key" in docs/POLICY.md."""
    rows = []
    for kind, keys in {"file": FILE, **KEYS}.items():
        for number, (name, key) in enumerate(keys.items()):
            need = "required; " if key.required else ""
            rows.append(
                f"| {kind if number == 0 else ''} | `{name}` | {need}{key.description} |".replace("|  |", "| |")
            )
    return rows


def test_the_page_says_of_every_key_what_the_schema_says() -> None:
    section = PAGE.split("\n## Every key\n")[1].split("\n## ")[0]
    assert [line for line in section.splitlines() if line.startswith("|")][2:] == table()
