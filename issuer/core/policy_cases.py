"""Cases of a policy: requests at a fixed time with fixed facts, what must come of them, and what they leave untried.

::

    version: 1
    cases:
      - name: settlement writes while its host is healthy
        at: 2026-06-01T12:00:00Z
        caller: spiffe://prod.example/ns/payments/sa/settler
        request: {audience: https://ledger.example, scopes: [ledger.write], intent: {ticket: CHG-1}}
        facts:
          - {type: posture, subject: "spiffe://prod.example/ns/payments/sa/settler", values: {status: healthy}}
        expect: {outcome: granted, lifetime: 90s}
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from issuer.core import policy_values
from issuer.core.caller import Caller
from issuer.core.condition import Truth
from issuer.core.decision import Denial
from issuer.core.duration import format_duration, parse_duration
from issuer.core.errors import InvalidTokenRequest, Reason
from issuer.core.exchange import origin_of_other
from issuer.core.explain import explain_decision
from issuer.core.fact_reading import FactRefused, fact_from_document
from issuer.core.policy_faults import FaultList, Position, quoted
from issuer.core.policy_fields import Fields, Source
from issuer.core.spiffe_id import SpiffeId, SpiffeIdError
from issuer.core.subjects import parse_subject
from issuer.core.token_request import GrantType, Intent, TokenRequest
from issuer.core.yaml_reader import Scalar, SequenceNode, YamlFault, read_entries
from issuer.core.yaml_values import mapping_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from issuer.core.condition import Condition
    from issuer.core.decision import Grant
    from issuer.core.explanation import Explanation
    from issuer.core.facts import Fact, FactKey, FactType
    from issuer.core.policy import Policy
    from issuer.core.yaml_reader import Entry, Node

CASE: Final = ("name", "at", "caller", "svid_rest", "request", "facts", "expect")
REQUEST: Final = (
    "audience", "scopes", "application", "ttl", "intent", "grant_type", "subject", "allow_partial",
    "bind_certificate",
)  # fmt: skip
EXPECT: Final = (
    "outcome", "reason", "scopes", "refused_scopes", "lifetime", "lifetime_rule", "rules", "application",
    "bound", "missing",
)  # fmt: skip
_INTENT: Final = tuple(field.name for field in fields(Intent))
_SVID_REST: Final = timedelta(hours=1)
_BOOLEANS: Final = ("true", "false")
_LISTS: Final = frozenset({"scopes", "refused_scopes", "rules", "missing"})
REASONS: Final = (
    Reason.AUDIENCE_NOT_ALLOWED, Reason.SCOPE_NOT_ALLOWED, Reason.APPLICATION_REQUIRED, Reason.APPLICATION_NOT_ALLOWED,
    Reason.GRANT_EXPIRED, Reason.GRANT_TYPE_NOT_ALLOWED, Reason.FACT_MISSING, Reason.CONDITION_NOT_MET,
    Reason.APPROVAL_REQUIRED, Reason.SVID_EXPIRES_SOON, Reason.REQUEST_INVALID,
)  # fmt: skip
"""Why :func:`~issuer.core.decide.decide` refuses."""


@dataclass(frozen=True, slots=True)
class Case:
    """One request and what must come of it. ``expect`` holds what the file says, by the words of :data:`EXPECT`.

    ``subject`` is whose token of others is exchanged; ``None`` where none is.
    """

    name: str
    source: Position
    at: datetime
    caller: Caller
    request: TokenRequest
    facts: tuple[Fact, ...]
    subject: str | None
    expect: Mapping[str, str | tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What came of a case. ``differences`` are (what, expected, got); empty when all is as expected."""

    case: Case
    differences: tuple[tuple[str, str, str], ...]
    explanation: Explanation

    @property
    def granted(self) -> bool:
        """Whether there was a token."""
        return not isinstance(self.explanation.answer, Denial)


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the cases tried: rules that took effect in one of them, and conditions that came out true and false.

    A grant takes effect when it applies to a request that is granted.

    Attributes:
        rules: How many there are.
        untried_rules: The ids of those that never took effect.
        sides: How many sides conditions have: two each.
        untried_sides: Conditions by name or text, each with the side that never came out.
    """

    rules: int
    untried_rules: tuple[str, ...]
    sides: int
    untried_sides: tuple[tuple[str, str], ...]

    @property
    def percent(self) -> int:
        """How much was tried, rounded down; 100 where there is nothing to try."""
        of = self.rules + self.sides
        return 100 if not of else (of - len(self.untried_rules) - len(self.untried_sides)) * 100 // of


def read_cases(name: str, content: bytes, fact_types: Mapping[str, FactType]) -> list[Case]:
    """Return the cases of a file.

    Raises:
        PolicyInvalid: With every fault at its place.
    """
    faults = FaultList()
    source = Source(name, faults, content)
    cases: dict[str, Case] = {}
    sections: set[str] = set()
    try:
        for entry in read_entries(content, lambda *fault: faults.add(Position(name, *fault[:2]), fault[2])):
            sections.add(entry.key.text)
            if entry.key.text == "cases" and entry.is_item:
                _keep(source, cases, _case(source, entry.node, fact_types))
            else:
                _check_section(source, entry)
    except YamlFault as fault:
        faults.add(Position(name, fault.line, fault.column), fault.message)
    faults.raise_if_any()
    for missing in (word for word in ("version", "cases") if word not in sections):
        faults.add(Position(name, 1, 1), f"'{missing}:' is missing")
    faults.raise_if_any()
    return list(cases.values())


def _check_section(source: Source, entry: Entry) -> None:
    if entry.key.text == "version":
        if not isinstance(entry.node, Scalar) or entry.node.text != "1":
            source.report(entry.node, "'version' must be 1")
    elif entry.key.text != "cases":
        source.report_unknown(entry.key, f"unknown key {quoted(entry.key.text)}", ("version", "cases"))
    elif not isinstance(entry.node, SequenceNode):
        source.report(entry.node, "'cases' must be a list")


def _keep(source: Source, cases: dict[str, Case], case: Case | None) -> None:
    if case is None:
        return
    if case.name in cases:
        place = cases[case.name].source
        source.faults.add(case.source, f"the case {quoted(case.name)} is there already, at {place}")
    cases[case.name] = case


def run_case(policy: Policy, case: Case) -> CaseResult:
    """Decide a case as the server would, and compare."""
    facts = {fact.key: fact for fact in case.facts}
    rests_on = None
    if case.subject is not None:
        rests_on = origin_of_other(case.subject, case.caller, case.request.scopes, case.at)
    explanation = explain_decision(policy, case.caller, case.request, facts, case.at, origin=rests_on)
    got = _outcome(explanation.answer)
    differences = tuple(
        (word, _shown(expected), _shown(got[word])) for word, expected in case.expect.items() if got[word] != expected
    )
    return CaseResult(case, differences, explanation)


def coverage_of(policy: Policy, results: Iterable[CaseResult]) -> Coverage:
    """Return what the cases tried of a policy."""
    applied: set[tuple[str, str]] = set()
    sides: set[tuple[str, Truth]] = set()
    for result in results:
        for rule in result.explanation.rules:
            if rule.applies and (rule.kind != "grant" or result.granted):
                applied.add((rule.kind, rule.id))
            sides |= {(condition.text, condition.truth) for condition in (*rule.conditions, *rule.requires)}
    rules = {
        *(("grant", rule.id) for rule in policy.grants),
        *(("prohibition", rule.id) for rule in policy.prohibitions),
        *(("limit", rule.id) for rule in policy.limits),
    }
    named = {condition.text: condition.name or condition.text for condition in _conditions(policy)}
    untried = tuple(
        (name, truth.value)
        for text, name in sorted(named.items())
        for truth in (Truth.TRUE, Truth.FALSE)
        if (text, truth) not in sides
    )
    untried_rules = tuple(sorted(rule_id for _, rule_id in rules - applied))
    return Coverage(len(rules), untried_rules, 2 * len(named), untried)


def _conditions(policy: Policy) -> Iterator[Condition]:
    for grant in policy.grants:
        yield from grant.conditions
    for prohibition in policy.prohibitions:
        yield from prohibition.conditions
    for limit in policy.limits:
        yield from (*limit.conditions, *limit.requires)
    for tier in policy.risk_tiers.values():
        yield from tier.requires


def _outcome(answer: Grant | Denial) -> dict[str, str | tuple[str, ...]]:
    common = {"rules": answer.rule_ids, "missing": answer.missing, "scopes": answer.scopes}
    if isinstance(answer, Denial):
        nothing = dict.fromkeys(EXPECT, "")
        return {
            **nothing,
            **common,
            "outcome": "refused",
            "reason": answer.reason.value,
            "refused_scopes": answer.scopes,
        }
    return {
        **common,
        "outcome": "granted",
        "reason": "",
        "refused_scopes": answer.refused_scopes,
        "lifetime": format_duration(answer.lifetime),
        "lifetime_rule": answer.lifetime_rule or answer.lifetime_bound.value,
        "application": answer.application or "",
        "bound": _BOOLEANS[not answer.bind_certificate],
    }


def _shown(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else f"[{', '.join(value)}]"


def _case(source: Source, node: Node, fact_types: Mapping[str, FactType]) -> Case | None:
    fields_ = Fields(source, node, "case", CASE)
    name = fields_.required("name")
    at = source.converted(fields_.required("at"), "case: 'at'", _moment)
    identity = source.converted(fields_.required("caller"), "case: 'caller'", _spiffe_id)
    rest = source.converted(fields_.scalar("svid_rest"), "case: 'svid_rest'", parse_duration) or _SVID_REST
    request = _request(fields_)
    facts = _facts(fields_, fact_types, at or datetime.min.replace(tzinfo=UTC))
    expect = _expect(fields_)
    if name is None or at is None or identity is None or request is None or expect is None:
        return None
    caller = Caller(identity, bytes(32), 0, at + rest)
    return Case(name.text, source.position(node), at, caller, request[0], facts, request[1], expect)


def _moment(text: str) -> datetime:
    return policy_values.not_before(text)


def _spiffe_id(text: str) -> SpiffeId:
    try:
        return SpiffeId.parse(text)
    except SpiffeIdError as error:
        raise ValueError(error.message) from None


def _request(outer: Fields) -> tuple[TokenRequest, str | None] | None:
    node = outer.node_of("request")
    if node is None:
        outer.source.report(outer.node, "case: 'request' is missing")
        return None
    fields_ = Fields(outer.source, node, "request", REQUEST)
    intent = None if fields_.node_of("intent") is None else _intent(fields_)
    ttl = outer.source.converted(fields_.scalar("ttl"), "request: 'ttl'", parse_duration)
    application = fields_.scalar("application")
    audience, subject = fields_.required("audience"), _subject(fields_)
    try:
        request = TokenRequest(
            audience=audience.text if audience else "",
            scopes=tuple(scope.text for scope in fields_.required_scalars("scopes")),
            ttl=ttl,
            application=application.text if application else None,
            bind_certificate=fields_.word("bind_certificate", _BOOLEANS) == "true",
            allow_partial=fields_.word("allow_partial", _BOOLEANS) == "true",
            intent=intent,
            grant_type=GrantType(
                fields_.word("grant_type", [kind.value for kind in GrantType]) or GrantType.CLIENT_CREDENTIALS
            ),
        )
    except InvalidTokenRequest as error:
        for violation in error.violations:
            outer.source.report(node, f"request: {violation.field} {violation.description}")
        return None
    return request, subject


def _subject(request: Fields) -> str | None:
    """Read whose token of others is exchanged; it is written as in ``subjects`` of a grant, and one subject alone."""
    scalar = request.scalar("subject")
    pattern = request.source.converted(scalar, "request: 'subject'", parse_subject)
    if scalar is None or pattern is None:
        return None
    grant_type = request.scalar("grant_type")
    if grant_type is None or grant_type.text != GrantType.TOKEN_EXCHANGE:
        request.source.report(scalar, "request: 'subject' is for the grant type token_exchange")
    if "*" in pattern.text:
        request.source.report(scalar, "request: 'subject' is one, and has no '*'")
    return pattern.text


def _intent(outer: Fields) -> Intent:
    node = outer.node_of("intent")
    assert node is not None  # noqa: S101 - asked before
    fields_ = Fields(outer.source, node, "intent", _INTENT)
    said = {word: fields_.scalar(word) for word in _INTENT}
    return Intent(**{word: scalar.text for word, scalar in said.items() if scalar is not None})


def _facts(outer: Fields, fact_types: Mapping[str, FactType], at: datetime) -> tuple[Fact, ...]:
    node = outer.node_of("facts")
    if not isinstance(node, SequenceNode):
        if node is not None:
            outer.source.report(node, "case: 'facts' must be a list")
        return ()
    found: dict[FactKey, Fact] = {}
    for item in node.items:
        try:
            fact = fact_from_document(mapping_of(item, "a fact"), fact_types, source="case", now=at)
            if fact.key in found:
                outer.source.report(item, f"fact: {fact.type} of {quoted(fact.subject)} is told twice")
            found[fact.key] = fact
        except FactRefused as refused:
            outer.source.report(item, f"fact: {refused}")
        except YamlFault as fault:
            outer.source.report(item, fault.message)
    return tuple(found.values())


def _expect(outer: Fields) -> dict[str, str | tuple[str, ...]] | None:
    node = outer.node_of("expect")
    if node is None:
        outer.source.report(outer.node, "case: 'expect' is missing: a case that expects nothing cannot fail")
        return None
    fields_ = Fields(outer.source, node, "expect", EXPECT)
    fields_.one_of(fields_.required("outcome"), "outcome", ("granted", "refused"))
    fields_.word("reason", [reason.value for reason in REASONS])
    fields_.word("bound", _BOOLEANS)
    expected: dict[str, str | tuple[str, ...]] = {}
    for word in EXPECT:
        value = fields_.node_of(word)
        if word in _LISTS and isinstance(value, SequenceNode):
            expected[word] = tuple(item.text for item in value.items if isinstance(item, Scalar))
        elif word in _LISTS and value is not None:
            outer.source.report(value, f"expect: {word!r} must be a list")
        elif (scalar := fields_.scalar(word) if word not in _LISTS else None) is not None:
            expected[word] = scalar.text
    lifetime = outer.source.converted(fields_.scalar("lifetime"), "expect: 'lifetime'", parse_duration)
    if lifetime is not None:
        expected["lifetime"] = format_duration(lifetime)
    return expected
