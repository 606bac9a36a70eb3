"""docs/POLICY.md is run: its policies load, its commands print what it says, and its tables name what there is."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from support.policies import request
from typer.testing import CliRunner

from issuer.cli.policy import policy_app
from issuer.core import policy_parser, policy_rules, policy_sections
from issuer.core.caller import Caller
from issuer.core.decide import decide
from issuer.core.decision import Denial, Grant
from issuer.core.duration import parse_duration
from issuer.core.errors import Reason
from issuer.core.patterns import parse_pattern
from issuer.core.policy_cases import read_cases, run_case
from issuer.core.policy_parser import PolicyFile, parse_policy
from issuer.core.spiffe_id import SpiffeId
from issuer.core.token_request import GrantType, Intent, TokenRequest
from issuer.facts.folder import FolderFeeder
from issuer.facts.store import FactStore

if TYPE_CHECKING:
    from issuer.core.policy import Policy

PAGE = (Path(__file__).parents[3] / "docs" / "POLICY.md").read_text(encoding="utf-8")
LEDGER = "https://ledger.example.org"


class Block(NamedTuple):
    language: str
    text: str


BLOCKS = [Block(*found) for found in re.findall(r"^```(.+)\n((?:.*\n)*?)```$", PAGE, re.MULTILINE)]
GOOD = [block.text for block in BLOCKS if block.language == "yaml"]


def loaded(text: str) -> Policy:
    return parse_policy([PolicyFile("policy.yaml", text.encode())])


def example(word: str) -> Policy:
    """Return the first good example that has ``word``."""
    return loaded(next(text for text in GOOD if word in text))


def test_the_page_has_only_blocks_that_are_run() -> None:
    assert {block.language for block in BLOCKS} == {
        "yaml",
        "yaml faulty",
        "yaml legacy",
        "yaml facts",
        "yaml cases",
        "console",
    }
    assert len(GOOD) == 20


@pytest.mark.parametrize("text", GOOD)
def test_every_good_example_loads(text: str) -> None:
    loaded(text)


def test_every_command_answers_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is run on the policy above it."""
    monkeypatch.chdir(tmp_path)
    for block in BLOCKS:
        if block.language != "console":
            Path("policy.yaml").write_text(block.text, encoding="utf-8")
            continue
        command, _, expected = block.text.partition("\n")
        program, group, *arguments = command.removeprefix("$ ").split()
        assert (program, group) == ("issuer", "policy")
        assert CliRunner().invoke(policy_app, arguments).output == expected


def test_the_exception_loads_where_the_configuration_allows_it() -> None:
    (text,) = [block.text for block in BLOCKS if block.language == "yaml legacy"]
    policy = parse_policy([PolicyFile("policy.yaml", text.encode())], legacy_ceiling=timedelta(hours=4))
    assert policy.grants[0].legacy is not None


def test_the_facts_are_facts_of_the_example(tmp_path: Path) -> None:
    (text,) = [block.text for block in BLOCKS if block.language == "yaml facts"]
    (tmp_path / "facts.yaml").write_text(text, encoding="utf-8")
    store = FactStore()
    types = example("freeze-on-risk").fact_types
    assert FolderFeeder(tmp_path, store).read(types, datetime(2026, 6, 1, 12, 5, tzinfo=UTC)) == []
    assert store.feeders() == {"file:facts.yaml": 1}


def test_the_cases_come_out_as_expected() -> None:
    (text,) = [block.text for block in BLOCKS if block.language == "yaml cases"]
    policy = example("freeze-on-risk")
    results = [run_case(policy, case) for case in read_cases("a.test.yaml", text.encode(), policy.fact_types)]
    assert [result.differences for result in results] == [(), ()]


def ask(policy: Policy, workload: str, *scopes: str, now: datetime | None = None, **more: object) -> Grant | Denial:
    moment = now or datetime(2026, 6, 1, tzinfo=UTC)
    calling = Caller(SpiffeId.parse(f"spiffe://example.org/{workload}"), bytes(32), 1, moment + timedelta(hours=2))
    return decide(policy, calling, request(*scopes, audience=LEDGER, **more), {}, moment)  # type: ignore[arg-type]


def reason(outcome: Grant | Denial) -> Reason | None:
    return None if isinstance(outcome, Grant) else outcome.reason


def test_the_first_grant_is_all_or_nothing() -> None:
    policy = example("settlement-reads-ledger")
    settler = "ns/payments/sa/settler"
    assert reason(ask(policy, settler, "ledger.read")) is None
    assert reason(ask(policy, settler, "ledger.read", "ledger.write")) is Reason.SCOPE_NOT_ALLOWED
    partial = ask(policy, settler, "ledger.read", "ledger.write", allow_partial=True)
    assert isinstance(partial, Grant)
    assert partial.refused_scopes == ("ledger.write",)


def test_lifetimes_are_the_minimum() -> None:
    policy = example("min_ttl: 15s")
    outcome = ask(policy, "ns/payments/sa/settler", "ledger.read", "ledger.write")
    assert isinstance(outcome, Grant)
    assert outcome.lifetime == timedelta(seconds=90)
    assert (
        reason(ask(policy, "ns/payments/sa/settler", "ledger.read", ttl=timedelta(seconds=14)))
        is Reason.REQUEST_INVALID
    )


def test_a_grant_applies_on_both_of_its_days() -> None:
    policy = example("audit-of-2026")

    def at(*moment: int) -> Reason | None:
        return reason(ask(policy, "ns/audit/sa/x", "ledger.read", now=datetime(*moment, tzinfo=UTC)))  # type: ignore[misc,arg-type]

    assert at(2026, 11, 1, 23, 59, 59) is Reason.GRANT_EXPIRED
    assert at(2026, 11, 2) is None
    assert at(2026, 11, 30, 23, 59, 50) is None
    assert at(2026, 11, 30, 23, 59, 51) is Reason.GRANT_EXPIRED


def test_a_broker_must_choose_its_application() -> None:
    policy = example("broker-for-reports")
    broker = "ns/platform/sa/broker"
    assert reason(ask(policy, broker, "ledger.read")) is Reason.APPLICATION_REQUIRED
    assert reason(ask(policy, broker, "ledger.write", application="payments")) is None
    assert reason(ask(policy, broker, "ledger.write", application="reports")) is Reason.SCOPE_NOT_ALLOWED
    assert reason(ask(policy, broker, "ledger.read", application="other")) is Reason.APPLICATION_NOT_ALLOWED


def test_prohibitions_win() -> None:
    policy = example("closing-of-the-books")
    assert reason(ask(policy, "ns/payments/sa/settler", "ledger.read")) is None
    assert reason(ask(policy, "ns/payments/sa/settler", "ledger.write")) is Reason.SCOPE_NOT_ALLOWED
    assert reason(ask(policy, "ns/payments/sa/compromised", "ledger.read")) is Reason.AUDIENCE_NOT_ALLOWED


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_table_of_patterns_is_true() -> None:
    for pattern, matching, not_matching in rows("Workloads"):
        parsed = parse_pattern(pattern.strip("`"))
        for path in re.findall(r"`(/\S+?)`", matching):
            assert parsed.matches(SpiffeId.parse(f"spiffe://example.org{path}")), path
        for path in re.findall(r"`(/\S+?)`", not_matching):
            assert not parsed.matches(SpiffeId.parse(f"spiffe://example.org{path}")), path


def test_the_table_of_risk_tiers_is_true() -> None:
    tiers = loaded("version: 1").risk_tiers
    for (tier, ttl, binding), (name, rules) in zip(rows("Scopes and risk tiers"), tiers.items(), strict=True):
        assert tier == f"`{name.value}`"
        assert parse_duration(ttl) == rules.max_ttl
        assert (binding == "required") is rules.binding_required


def test_an_intent_is_registered_for_one_operation_and_gives_its_consumer_nothing_else() -> None:
    policy = example("schedules-settlement")
    moment = datetime(2026, 6, 1, tzinfo=UTC)

    def registering(operation: str, grant_type: GrantType) -> Reason | None:
        scheduler = SpiffeId.parse("spiffe://example.org/ns/batch/sa/scheduler")
        asked = TokenRequest(LEDGER, ("ledger.settle",), intent=Intent(operation), grant_type=grant_type)
        return reason(decide(policy, Caller(scheduler, bytes(32), 1, moment + timedelta(hours=2)), asked, {}, moment))

    assert registering("settle-batch", GrantType.INTENT) is None
    assert registering("pay", GrantType.INTENT) is Reason.CONDITION_NOT_MET
    assert registering("settle-batch", GrantType.CLIENT_CREDENTIALS) is Reason.GRANT_TYPE_NOT_ALLOWED
    assert reason(ask(policy, "ns/batch/sa/worker", "ledger.settle")) is Reason.GRANT_TYPE_NOT_ALLOWED


def test_every_reason_that_decide_gives_is_explained() -> None:
    explained = {Reason(row[0].strip("`")) for row in rows("Why was I refused?")}
    source = (Path(__file__).parents[3] / "issuer" / "core" / "decide.py").read_text(encoding="utf-8")
    assert explained == {Reason[name] for name in re.findall(r"Reason\.([A-Z_]+)", source)}


def test_every_key_of_the_language_is_listed() -> None:
    listed = set(re.findall(r"`([a-z_]+)`", " ".join(cell for row in rows("Every key") for cell in row[1:2])))
    rules = (
        *(
            policy_rules.AUDIENCE,
            policy_rules.SCOPE,
            policy_rules.GRANT,
            policy_rules.PROHIBITION,
            policy_rules.LIMIT,
            policy_rules.TIER,
        ),
        *(policy_rules.LEGACY, policy_rules.APPROVAL, policy_parser._SECTIONS),
        *(policy_sections.ENVIRONMENT, policy_sections.GROUP, policy_sections.FACT, policy_sections.CONDITION),
        policy_sections.FOLDER,
    )
    assert listed == {word for words in rules for word in words}
