"""The keys of all issuers of a ledger: what it is told of them, and which issuer must not serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from issuer.core.key_ring_shared import FOREVER, KeysOfLedger
from issuer.core.ledger_claims import ClaimRow, claims_of
from issuer.system import SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterable

    from issuer.core.ledger_entries import StepTaken

NOW = 1_000_000


def written(keys: KeysOfLedger, steps: Iterable[StepTaken]) -> None:
    """As the ledger does it: the claims of entries are learned in their order."""
    rows = [ClaimRow(version, *claim) for version, claim in enumerate(claims_of(steps), 1)]
    keys.learn(rows, SystemClock().now())


@pytest.fixture
def keys() -> KeysOfLedger:
    """Of which *old* has signed, *gone* was taken away, and *new* signs."""
    made = KeysOfLedger()
    written(made, made.adding(["gone", "old"], NOW))
    written(made, made.adding(["new"], NOW))
    written(made, made.removing("gone", NOW))
    return made


def test_whoever_has_every_key_that_signs_may_serve(keys: KeysOfLedger) -> None:
    assert keys.signing == ["old", "new"]
    assert keys.fault("new", {"new", "old"}) == ""
    assert keys.fault("old", {"new", "old"}) == "", "one that has not followed yet signs what all publish"
    assert keys.fault("newer", {"newer", "new", "old", "gone"}) == "", "it tells before it signs"
    assert KeysOfLedger().fault("first", {"first"}) == ""


@pytest.mark.parametrize("known", [{"stray"}, {"old", "stray"}, set()])
def test_an_issuer_that_lacks_a_key_by_which_others_sign_must_not_serve(keys: KeysOfLedger, known: set[str]) -> None:
    fault = keys.fault("stray", known)
    assert "new" in fault
    assert "gone" not in fault
    assert "`issuer keys forget`" in fault


def test_an_issuer_whose_key_was_taken_away_must_not_serve(keys: KeysOfLedger) -> None:
    assert "gone, by which this issuer would sign, was taken away" in keys.fault("gone", {"gone", "old", "new"})


def test_of_many_keys_a_few_are_named() -> None:
    keys = KeysOfLedger()
    written(keys, keys.adding("abcde", NOW))
    assert "(a, b, c and 2 more)" in keys.fault("x", {"x"})
    assert "(c, d, e)" in keys.fault("a", {"a", "b"})


def test_each_key_is_told_of_once_and_none_comes_back(keys: KeysOfLedger) -> None:
    assert keys.adding(["old", "new", "gone"], NOW) == []
    assert keys.removing("gone", NOW) == []
    assert keys.removing("never", NOW) == [], "one that did not sign is nobody's loss"


def test_steps_are_numbered_so_that_of_two_issuers_one_takes_the_next(keys: KeysOfLedger) -> None:
    first, second = keys.adding(["a", "b"], NOW), keys.adding(["c"], NOW)
    assert [claim.key for claim in claims_of(first)] == ["keys/signing/5", "keys/signing/6"]
    assert claims_of(second)[0].key == "keys/signing/5"
    assert keys.is_taken("keys/signing/4")
    assert not keys.is_taken("keys/signing/5")
    assert not keys.is_taken("status/4/1")


def test_a_step_matters_for_ever_and_names_no_one() -> None:
    (step,) = KeysOfLedger().adding(["a"], NOW)
    event = step.event()
    assert (event.kind, event.actor, step.expires_at) == ("key_shared", "", FOREVER)
    assert event.detail == f'{{"keys":"signing","number":1,"over":{FOREVER},"said":{{"kid":"a","signs":true}}}}'


def test_passes_over_what_is_no_step_of_keys(keys: KeysOfLedger) -> None:
    keys.learn([ClaimRow(9, "approval/5/1", 0, "", "{}", FOREVER)], SystemClock().now())
    assert keys.signing == ["old", "new"]
