"""``issuer policy diff``: which identities a change of policy gives and takes which access."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from issuer.cli.failure import ExitCode, fail
from issuer.cli.output import Output
from issuer.cli.policy_loading import AtOption, OutputOption, load, moment
from issuer.core.policy_diff import Effect, diff_policies

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from issuer.core.policy import Policy
    from issuer.core.policy_diff import AccessDifference, PolicyDifference
    from issuer.core.policy_terms import Changed

_EVERY = "366d"  # whether the configuration allows an exception is another question than who has one


def diff(
    old: Annotated[Path, typer.Argument(help="The policy as it is: a folder, or one file.")],
    new: Annotated[Path, typer.Argument(help="The policy as it is to be.")],
    at: AtOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say which workloads gain, lose and keep with other terms which access; not which lines changed.

    Grants that have ended at that moment give nothing; those that begin later count. Exit code 0 when nothing differs,
    1 when something does, 2 when there is nothing at a path.

    [bold]Example[/bold]

        issuer policy diff deployed/ policy/
    """
    for path in (old, new):
        if not path.exists():
            fail(f"there is nothing at {path}", ExitCode.USAGE)
    before, after = _loaded(old), _loaded(new)
    difference = diff_policies(before, after, moment(at))
    if output is Output.JSON:
        typer.echo(json.dumps(_document(before, after, difference)))
    else:
        for line in _lines(before, after, difference):
            typer.echo(line)
    raise typer.Exit(int(ExitCode.FAILED if difference else ExitCode.OK))


def _loaded(path: Path) -> Policy:
    """Return a policy; one with faults is no difference, so the command ends as for any wrong argument."""
    try:
        return load(path, _EVERY)
    except typer.Exit as error:
        raise typer.Exit(int(ExitCode.USAGE)) from error


def _lines(before: Policy, after: Policy, difference: PolicyDifference) -> Iterator[str]:
    for effect, accesses in groupby(difference.accesses, key=lambda access: access.effect):
        yield f"{effect}:"
        for workload, theirs in groupby(accesses, key=lambda access: access.workload):
            yield f"  {workload}"
            for access in theirs:
                yield from _access_lines(access)
    if difference.surroundings:
        yield "what decisions depend on:"
        yield from (f"  {_plain(change)}" for change in difference.surroundings)
    yield _summary(before, after, difference)


def _access_lines(access: AccessDifference) -> Iterator[str]:
    whose = f" for {access.application}" if access.application else ""
    line = f"    {access.audience}: {' '.join(access.scopes)}{whose} by {' '.join(access.grant_types)}"
    if access.prohibitions:
        line += f", {_PREPOSITIONS[access.effect]} prohibition {' '.join(access.prohibitions)}"
    yield f"{line}  ({' '.join(access.grants)})"
    if access.effect is Effect.CHANGES or access.prohibitions:
        yield from (f"      {_plain(change)}" for change in access.changes)
    elif access.changes:
        yield f"      {_terms(access.changes)}"


_PREPOSITIONS = {Effect.GAINS: "back from", Effect.LOSES: "to", Effect.CHANGES: "by"}


def _terms(changes: Iterable[Changed]) -> str:
    return _printable(", ".join(f"{name} {after}" for name, _, after in changes if after))


def _plain(change: Changed) -> str:
    name, before, after = change
    return _printable(f"{name}: {before or 'none'} -> {after or 'none'}")


def _printable(text: str) -> str:
    """Return ``text`` on one line: a string in a condition may have any character."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _summary(before: Policy, after: Policy, difference: PolicyDifference) -> str:
    if before.digest == after.digest:
        return f"no difference: both have the digest {before.digest}"
    if not difference:
        return "no difference in who may have what; ids of rules differ, or what gives nobody anything"
    gain, lose, change = (difference.workloads(effect) for effect in Effect)
    gains, loses, changes = (
        verb + "s" * (count == 1) for verb, count in zip(("gain", "lose", "change"), (gain, lose, change), strict=True)
    )
    return f"{gain} {'identity' if gain == 1 else 'identities'} {gains}, {lose} {loses}, {change} {changes}"


def _document(before: Policy, after: Policy, difference: PolicyDifference) -> dict[str, object]:
    return {
        "old_digest": before.digest,
        "new_digest": after.digest,
        "identities": {effect.value: difference.workloads(effect) for effect in Effect},
        "accesses": [_access_document(access) for access in difference.accesses],
        "surroundings": [_change_document(change) for change in difference.surroundings],
    }


def _access_document(access: AccessDifference) -> dict[str, object]:
    return {**access._asdict(), "changes": [_change_document(change) for change in access.changes]}


def _change_document(change: Changed) -> dict[str, object]:
    return dict(zip(("name", "from", "to"), change, strict=True))
