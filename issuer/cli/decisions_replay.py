"""``issuer decisions replay``: what another policy would have answered to the requests of the past."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer
from rich.console import Console
from rich.progress import Progress

from issuer.cli.decision_options import UntilOption, time_range
from issuer.cli.failure import ExitCode, fail
from issuer.cli.ledger_loading import ConfigOption, FileOption, reader_of
from issuer.cli.output import ReportOption, ReportOutput, tell_rows
from issuer.cli.policy_loading import load
from issuer.core.replay import Change, NotReplayable, change, differing_fields, recorded, told_before, told_by
from issuer.kept_policies import KeptPolicies
from issuer.ledger.errors import LedgerFault
from issuer.ledger.reading import MAX_LISTED
from issuer.ports import DecisionsWanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from issuer.core.policy import Policy
    from issuer.core.record import DecisionRecord
    from issuer.core.replay import Recorded
    from issuer.ledger.reading import LedgerReader, StoredDecision

_COLUMNS = ("requests", "change", "caller", "audience", "before", "after", "decision_id")


def replay(
    policy: Annotated[
        Path | None, typer.Option("--policy", help="The policy to try; without it, the one that decided each.")
    ] = None,
    since: Annotated[str, typer.Option(help="How far back, as 24h or 7d; or a moment.")] = "7d",
    until: UntilOption = None,
    legacy_max_ttl: Annotated[
        str | None, typer.Option(help="[policy] legacy_max_ttl of the configuration, for a policy with exceptions.")
    ] = None,
    fail_on_change: Annotated[bool, typer.Option(help="Exit with 1 when an answer would change.")] = False,  # noqa: FBT002
    config: ConfigOption = Path("issuer.toml"),
    file: FileOption = None,
    output: ReportOption = ReportOutput.TABLE,
) -> None:
    """Decide recorded requests again, and tell whose answers would change: the blast radius of an edit.

    Each is decided from what was recorded of it: the caller, the request, the facts, the moment. Without --policy,
    under the policy that decided it, which the ledger keeps: any change then is a defect of this program, and the exit
    code 1.

    [bold]Example[/bold]

        issuer decisions replay --policy policy/ --since 7d
    """
    begin, end = time_range(since, until)
    tried = None if policy is None else load(policy, legacy_max_ttl)
    reader = reader_of(config, file)
    found = Replayed()
    try:
        kept = KeptPolicies(reader)
        compare = found.under(tried) if tried else found.under_its_own(kept)
        for stored in _with_progress(reader, DecisionsWanted(since=begin, until=end)):
            found.replay(stored, compare, reader)
    except LedgerFault as fault:
        fail(str(fault))
    _tell(found, output)
    if found.changes and (fail_on_change or tried is None):
        raise typer.Exit(int(ExitCode.FAILED))


@dataclass(slots=True)
class Replayed:
    """What came of replaying decisions.

    Attributes:
        replayed: How many were decided again.
        skipped: How many were not, by why.
        changes: How many changed, by change, caller, audience, and the answers before and after; with one of them.
    """

    replayed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    changes: dict[tuple[str, ...], tuple[int, str]] = field(default_factory=dict)

    def replay(
        self, stored: StoredDecision, compare: Callable[[DecisionRecord, Recorded], None], reader: LedgerReader
    ) -> None:
        """Decide one again."""
        if stored.erased:
            self.skipped["the intent was erased"] += 1
            return
        try:
            compare(stored.record, recorded(stored.record, reader.revocation))
        except NotReplayable as why:
            self.skipped[str(why)] += 1
        else:
            self.replayed += 1

    def under(self, policy: Policy) -> Callable[[DecisionRecord, Recorded], None]:
        """Compare with the answers of another policy."""

        def compare(record: DecisionRecord, inputs: Recorded) -> None:
            before, after = told_before(record), told_by(policy, inputs)
            if (kind := change(before, after)) is not Change.SAME:
                self._add(record, kind.value, _answer(before.reason, before.scopes, before.lifetime),
                          _answer(after.reason, after.scopes, after.lifetime))  # fmt: skip

        return compare

    def under_its_own(self, policies: KeptPolicies) -> Callable[[DecisionRecord, Recorded], None]:
        """Compare with the answers of the policy that decided."""

        def compare(record: DecisionRecord, inputs: Recorded) -> None:
            own = policies.get(record.policy)
            if own is None:
                raise NotReplayable(f"the ledger does not keep the policy {record.policy}, as this program reads it")
            if differing := differing_fields(record, inputs, own):
                self._add(record, "not reproduced", " ".join(differing), "")

        return compare

    def _add(self, record: DecisionRecord, kind: str, before: str, after: str) -> None:
        key = (kind, record.caller, record.audience, before, after)
        count, _ = self.changes.get(key, (0, ""))
        self.changes[key] = count + 1, str(UUID(bytes=record.decision_id))


def _answer(reason: str, scopes: str, lifetime: int | None) -> str:
    return reason or f"{scopes} for {lifetime} s"


def _with_progress(reader: LedgerReader, wanted: DecisionsWanted) -> Iterator[StoredDecision]:
    """Yield decisions, the oldest first, a part of them in memory at a time."""
    last, end = 0, reader.last_seq()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("replaying", total=None)
        while found := reader.after(wanted, last, MAX_LISTED):
            if not last:
                progress.update(task, total=end - found[0].seq + 1)
            progress.advance(task, found[-1].seq - (last or found[0].seq - 1))
            last = found[-1].seq
            yield from found


def _tell(found: Replayed, output: ReportOutput) -> None:
    rows = [
        {**dict(zip(_COLUMNS[1:], (*key, example), strict=True)), "requests": count}
        for key, (count, example) in sorted(found.changes.items(), key=lambda each: (-each[1][0], each[0]))
    ]
    if output is ReportOutput.JSON:
        typer.echo(json.dumps({"replayed": found.replayed, "skipped": found.skipped, "changes": rows}))
        return
    tell_rows(rows, _COLUMNS, output, "no answer changes")
    if output is ReportOutput.TABLE:
        changed = sum(count for count, _ in found.changes.values())
        typer.echo(f"{found.replayed} requests replayed: {changed} answers change")
        for why, count in found.skipped.items():
            typer.echo(f"{count} not replayed: {why}")
