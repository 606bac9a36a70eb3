"""What is written for an end: the end, and in the same commit the death of every token of the window."""

from __future__ import annotations

import json

from support.windows import HOUR, MINUTE, OPERATOR, SETTLER, opening

from issuer.core.access_end import basis_of, entries_of_end
from issuer.core.access_window import AccessWindow, Status, Step, StepKind, apply, begin
from issuer.core.ledger_entries import ACCESS_ENDED, RevocationMade, StepTaken
from issuer.core.revocation import Issued, Lift
from issuer.core.revocation_text import revocation_from_text
from issuer.core.spiffe_id import SpiffeId


def ended(step: Step, now: int, until: int = HOUR + 1) -> AccessWindow:
    window = apply(begin(opening(until=until)), step, now)
    assert isinstance(window, AccessWindow)
    return window


def test_an_early_end_revokes_what_rests_on_the_window_until_its_time_is_over() -> None:
    step = Step(StepKind.END, OPERATOR, Status.ENDED, "incident over")
    first, second = entries_of_end(ended(step, MINUTE), step, "r-1")
    assert isinstance(first, RevocationMade)
    assert (first.id, first.actor, first.time, first.by_attributes) == ("r-1", OPERATOR, MINUTE, True)
    assert first.expires_at == 3601
    revocation = revocation_from_text(
        first.event(41, 1).detail, time=first.time, actor=first.actor, version=1, lifted=None
    )
    basis = (basis_of(opening().id),)
    token = Issued(SpiffeId.parse(SETTLER), "https://ledger.example", "", (), "", "", MINUTE, basis=basis)
    assert revocation.kills(token, 41)
    assert revocation.stops(token)
    assert not revocation.stops(token._replace(basis=("access/other",)))
    assert revocation.matters(HOUR)
    assert not revocation.matters(3601 * 1_000_000)
    assert revocation.lifted is None or isinstance(revocation.lifted, Lift)
    assert isinstance(second, StepTaken)
    assert (second.kind, second.id, second.number, second.actor) == (ACCESS_ENDED, opening().id, 2, OPERATOR)
    assert json.loads(second.detail) == {
        "end": "ended",
        "kind": "end",
        "rules": [],
        "svid_until": 0,
        "why": "incident over",
    }


def test_an_end_that_time_made_is_written_and_revokes_nothing() -> None:
    for status, until in ((Status.EXPIRED, HOUR), (Status.SVID_EXPIRED, 3 * HOUR)):
        step = Step(StepKind.END, "", status)
        [only] = entries_of_end(ended(step, 2 * HOUR, until), step, "r-1")
        assert isinstance(only, StepTaken)
        assert only.actor == ""
