from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issuer.core.policy_parser import PolicyFile, parse_policy
from issuer.policy_files.formatting import CannotFormat, formatted

ROOT = Path(__file__).parents[3]
SHIPPED = [
    *sorted((ROOT / "issuer/policy_files").glob("*.yaml")),
    *sorted((ROOT / "issuer_testing/example_policy").glob("*.yaml")),
    *sorted((ROOT / "spire-dev").rglob("*.yaml")),
]
UGLY = """\
# who
version:   1
audiences:
- scopes:
     -   {risk: "low", name: 'read'}   # reads
  application: "ledger"
  name: "https://ledger.example"

grants:
  - scopes: [ "read" ]
    description: "say: no"
    owner: 'team'
    when: >-
      request.audience == "x"
      && caller.path != "/y"
    audience: https://ledger.example
    workloads: ["spiffe://prod.example/**"]
    id: a
"""
PRETTY = """\
# who
version: 1
audiences:
  - scopes:
      - {risk: low, name: read}        # reads
    application: ledger
    name: https://ledger.example

grants:
  - id: a
    workloads: [spiffe://prod.example/**]
    audience: https://ledger.example
    scopes: [read]
    when: >-
      request.audience == "x"
      && caller.path != "/y"
    owner: team
    description: 'say: no'
"""


def test_a_rule_is_written_in_the_order_of_its_keys_and_comments_stay() -> None:
    assert formatted(UGLY.encode()).decode() == PRETTY


def test_the_digest_stays_and_formatting_again_changes_nothing() -> None:
    digests = {parse_policy([PolicyFile("a", text.encode())]).digest for text in (UGLY, PRETTY)}
    assert len(digests) == 1
    assert formatted(PRETTY.encode()) == PRETTY.encode()


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_what_is_shipped_can_be_formatted(file: Path) -> None:
    once = formatted(file.read_bytes())
    assert formatted(once) == once


def test_every_example_of_the_manual_can_be_formatted() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/POLICY.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) > 10
    for block in blocks:
        if re.match(r"(?:#.*\n)*[a-z_]+:", block):
            formatted(block.encode())


@pytest.mark.parametrize(
    "value", ["5", "0x1F", "1e3", "2027-06-30", "1_000", "012", "1:30", ".5", "9m", "~x", "'null'"]
)
def test_values_that_look_like_numbers_or_dates_keep_their_text(value: str) -> None:
    text = f"version: 1\ngrants:\n  - id: {value}\n"
    assert formatted(text.encode()).decode() == text


def test_a_long_list_within_brackets_is_written_over_several_lines() -> None:
    scopes = ", ".join(f"scope-number-{number}" for number in range(12))
    after = formatted(f"version: 1\ngrants:\n  - id: a\n    scopes: [{scopes}]\n".encode()).decode()
    assert "    scopes:\n      - scope-number-0\n" in after
    assert max(map(len, after.splitlines())) <= 120


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "did not find|expected"),
        ("a: &x 1\nb: *x\n", "anchor"),
        ("a: 1\na: 2\n", "twice|already"),
        ("- a\n", "mapping"),
    ],
)
def test_what_the_parser_cannot_read_is_left_alone(text: str, said: str) -> None:
    with pytest.raises(CannotFormat, match=said):
        formatted(text.encode())


KEYS = st.sampled_from(["id", "owner", "audience", "description", "when"])
TEXTS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=20)
COMMENTS = st.sampled_from(["", "  # why", "  # : [odd] {", " #"])


@given(
    st.lists(st.dictionaries(KEYS, st.tuples(TEXTS, COMMENTS), min_size=1), min_size=1, max_size=4),
    st.sampled_from(["", "  # above"]),
)
def test_whatever_is_formatted_says_the_same(rules: list[dict[str, tuple[str, str]]], above: str) -> None:
    lines = ["version: 1", "grants:"]
    for rule in rules:
        lines += [above] * bool(above)
        for position, (key, (value, comment)) in enumerate(rule.items()):
            quoted = "'" + value.replace("'", "''") + "'"
            lines.append(f"  {' ' if position else '-'} {key}: {quoted}{comment}")
    text = "\n".join(lines) + "\n"
    once = formatted(text.encode())
    assert formatted(once) == once
    assert once.count(b"#") == text.encode().count(b"#")
