"""``issuer policy explain``: why a request is granted or refused, from the files alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from issuer.cli.failure import ExitCode, fail
from issuer.cli.output import Output
from issuer.cli.policy_loading import AtOption, CeilingOption, OutputOption, PolicyOption, load, moment
from issuer.core.caller import Caller
from issuer.core.decision import Denial
from issuer.core.duration import format_duration, parse_duration
from issuer.core.errors import InvalidTokenRequest
from issuer.core.exchange import origin_of_other
from issuer.core.explain import explain_decision
from issuer.core.patterns import PatternError
from issuer.core.spiffe_id import SpiffeId, SpiffeIdError
from issuer.core.subjects import parse_subject
from issuer.core.token_request import GrantType, Intent, TokenRequest
from issuer.facts.folder import FactFileRefused, read_fact_file

if TYPE_CHECKING:
    from issuer.core.decision import Grant
    from issuer.core.explanation import ConditionReport, Explanation, RuleReport, ScopeReport
    from issuer.core.facts import Facts
    from issuer.core.lifetime import Limit
    from issuer.core.policy import Policy


class Expected(StrEnum):
    """What ``--expect`` can name."""

    GRANTED = "granted"
    REFUSED = "refused"


def explain(
    spiffe_id: Annotated[str, typer.Argument(help="Who asks.")],
    audience: Annotated[str, typer.Argument(help="For which API.")],
    scopes: Annotated[list[str], typer.Argument(help="For which scopes.")],
    policy: PolicyOption = Path("policy"),
    at: AtOption = None,
    facts: Annotated[list[Path] | None, typer.Option(help="A file of facts; may be given several times.")] = None,
    application: Annotated[str | None, typer.Option(help="On whose behalf.")] = None,
    ttl: Annotated[str | None, typer.Option(help="The lifetime asked for, as 5m.")] = None,
    grant_type: Annotated[GrantType, typer.Option(help="How it is asked for.")] = GrantType.CLIENT_CREDENTIALS,
    subject: Annotated[
        str | None,
        typer.Option(help="Of whose token of others it is the exchange: a SPIFFE ID, or an issuer, # and who."),
    ] = None,
    intent: Annotated[
        list[str] | None, typer.Option(help="What for, as operation=settle-batch; may be given several times.")
    ] = None,
    svid_rest: Annotated[str, typer.Option(help="How long the caller's SVID still lives.")] = "1h",
    allow_partial: Annotated[bool, typer.Option("--allow-partial", help="Take what can be granted.")] = False,  # noqa: FBT002
    bind_certificate: Annotated[bool, typer.Option("--bind-certificate", help="Bind the token to the SVID.")] = False,  # noqa: FBT002
    expect: Annotated[Expected | None, typer.Option(help="Exit with 1 when it comes out otherwise.")] = None,
    legacy_max_ttl: CeilingOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say why a request is granted or refused: every rule that speaks of it, every condition with its values, and what
    would have to change.

    [bold]Example[/bold]

        issuer policy explain spiffe://example.org/ns/payments/sa/settler https://ledger.example.org ledger.write
        issuer policy explain ... --facts facts/posture.yaml --intent ticket=CHG-17 --at 2026-06-01T12:00:00
    """  # noqa: D205 - the first sentence is the help
    now = moment(at)
    caller = Caller(_spiffe_id(spiffe_id), bytes(32), 0, now + _duration(svid_rest, "--svid-rest"))
    request = _request(
        audience, scopes, application, ttl, _intent(intent or []), grant_type, allow_partial, bind_certificate
    )
    loaded = load(policy, legacy_max_ttl)
    rests_on = None if subject is None else origin_of_other(_subject(subject, grant_type), caller, request.scopes, now)
    explanation = explain_decision(loaded, caller, request, _facts(facts or [], loaded, now), now, origin=rests_on)
    if output is Output.JSON:
        typer.echo(json.dumps(_document(explanation), default=str))
    else:
        _print(explanation)
    outcome = Expected.REFUSED if isinstance(explanation.answer, Denial) else Expected.GRANTED
    if expect not in (None, outcome):
        fail(f"expected {expect}, and it is {outcome}")


def _spiffe_id(text: str) -> SpiffeId:
    try:
        return SpiffeId.parse(text)
    except SpiffeIdError as error:
        fail(f"{text}: {error.message}", ExitCode.USAGE)


def _subject(text: str, grant_type: GrantType) -> str:
    try:
        subject = parse_subject(text).text
    except PatternError as error:
        fail(f"--subject: {error.message}", ExitCode.USAGE)
    if grant_type is not GrantType.TOKEN_EXCHANGE or "*" in subject:
        fail(f"--subject: is one, and for --grant-type {GrantType.TOKEN_EXCHANGE}", ExitCode.USAGE)
    return subject


def _duration(text: str, option: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        fail(f"{option}: {error}", ExitCode.USAGE)


def _intent(said: list[str]) -> Intent | None:
    parts = dict(part.partition("=")[::2] for part in said)
    if unknown := parts.keys() - Intent.__dataclass_fields__.keys():
        fail(f"--intent: {min(unknown)!r} is none of {', '.join(Intent.__dataclass_fields__)}", ExitCode.USAGE)
    return Intent(**parts) if parts else None


def _request(
    audience: str,
    scopes: list[str],
    application: str | None,
    ttl: str | None,
    intent: Intent | None,
    grant_type: GrantType,
    allow_partial: bool,  # noqa: FBT001 - by position, as listed
    bind_certificate: bool,  # noqa: FBT001
) -> TokenRequest:
    lifetime = None if ttl is None else _duration(ttl, "--ttl")
    try:
        return TokenRequest(
            audience,
            tuple(scopes),
            lifetime,
            application,
            bind_certificate,
            allow_partial,
            intent=intent,
            grant_type=grant_type,
        )
    except InvalidTokenRequest as error:
        fail("\n".join(f"{fault.field} {fault.description}" for fault in error.violations), ExitCode.USAGE)


def _facts(files: list[Path], policy: Policy, now: datetime) -> Facts:
    try:
        found = [fact for file in files for fact in read_fact_file(file, policy.fact_types, now)]
    except FactFileRefused as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}", ExitCode.USAGE)
    return {fact.key: fact for fact in found}


def _print(explanation: Explanation) -> None:
    _print_answer(explanation.answer)
    for scope in explanation.scopes:
        by = f"by {scope.grant}, at most {', '.join(map(_term, scope.terms))}"
        typer.echo(f"scope {scope.name}: {by if scope.available else '; '.join(scope.why)}")
    for rule in explanation.rules:
        _print_rule(rule)
    for pattern, grant in explanation.nearest:
        typer.echo(f"no grant speaks of this caller; near: {pattern} (grant {grant})")
    if explanation.changes:
        typer.echo("what stands in the way:")
        for change in explanation.changes:
            typer.echo(f"  {change}")


def _print_answer(answer: Grant | Denial) -> None:
    if isinstance(answer, Denial):
        typer.echo(f"refused: {answer.reason}{_list(' for ', answer.scopes)}")
    else:
        who = answer.lifetime_rule or answer.lifetime_bound.value
        typer.echo(f"granted: {' '.join(answer.scopes)} for {format_duration(answer.lifetime)}, which {who} sets")
        if answer.refused_scopes:
            typer.echo(f"left out: {' '.join(answer.refused_scopes)}")
    if answer.shadow is not None:
        would = f"refuse: {answer.shadow.reason}" if answer.shadow.reason else f"grant {' '.join(answer.shadow.scopes)}"
        typer.echo(f"with the rules in audit mode it would {would}")


def _print_rule(rule: RuleReport) -> None:
    audit = " (audit)" if rule.audit else ""
    place = f"  {rule.source}" if rule.source else ""
    typer.echo(f"{'+' if rule.applies else '-'} {rule.kind} {rule.id}{audit}: {rule.why}{place}")
    for condition in (*rule.conditions, *rule.requires):
        typer.echo(f"    {condition.truth.value}: {condition.name or ' '.join(condition.text.split())}")
        for path in condition.missing:
            typer.echo(f"      {path}: missing")
        for path, value in condition.values:
            typer.echo(f"      {path} = {_value(value)}")
        for text, value in condition.parts:
            if text not in dict(condition.values) and text not in condition.missing:
                typer.echo(f"      {' '.join(text.split())} -> {'unknown' if value is None else _value(value)}")


def _value(value: Any) -> str:  # noqa: ANN401 - of whatever type a variable has
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return f"{value.total_seconds():g}s" if isinstance(value, timedelta) else json.dumps(value, default=str)


def _term(term: Limit) -> str:
    return f"{format_duration(term.lifetime)} ({term.bound.replace('_', ' ')}{f' {term.rule}' if term.rule else ''})"


def _list(before: str, items: tuple[str, ...]) -> str:
    return before + " ".join(items) if items else ""


def _document(explanation: Explanation) -> dict[str, object]:
    answer = explanation.answer
    return {
        "granted": not isinstance(answer, Denial),
        "reason": answer.reason if isinstance(answer, Denial) else None,
        "scopes": answer.scopes,
        "lifetime_seconds": None if isinstance(answer, Denial) else answer.lifetime.total_seconds(),
        "lifetime_rule": None if isinstance(answer, Denial) else answer.lifetime_rule,
        "policy": answer.policy_digest,
        "missing": answer.missing,
        "environments": explanation.environments,
        "application": explanation.application,
        "scopes_asked": [_scope_document(scope) for scope in explanation.scopes],
        "rules": [_rule_document(rule) for rule in explanation.rules],
        "changes": explanation.changes,
        "nearest": [{"workload": pattern, "grant": grant} for pattern, grant in explanation.nearest],
    }


def _scope_document(scope: ScopeReport) -> dict[str, object]:
    return {
        "name": scope.name,
        "available": scope.available,
        "grant": scope.grant,
        "why": scope.why,
        "terms": [
            {"bound": term.bound, "rule": term.rule, "seconds": term.lifetime.total_seconds()} for term in scope.terms
        ],
    }


def _rule_document(rule: RuleReport) -> dict[str, object]:
    return {
        "kind": rule.kind,
        "id": rule.id,
        "source": rule.source,
        "applies": rule.applies,
        "why": rule.why,
        "audit": rule.audit,
        "conditions": [_condition_document(condition) for condition in rule.conditions],
        "requires": [_condition_document(condition) for condition in rule.requires],
    }


def _condition_document(condition: ConditionReport) -> dict[str, object]:
    return {
        "name": condition.name,
        "text": condition.text,
        "truth": condition.truth.value,
        "missing": condition.missing,
        "because": condition.because,
        "values": {path: _value(value) for path, value in condition.values},
        "parts": [{"text": text, "value": None if value is None else _value(value)} for text, value in condition.parts],
    }
