from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from support.facts import RISK, risk
from support.policies import NOW, SETTLER

from issuer.core.errors import AdminRefused, Reason
from issuer.core.facts import FactKey
from issuer.facts.store import FactStore

KEY = FactKey("risk", SETTLER)
TYPES = {"risk": RISK}


def test_the_newest_counts_and_of_equally_new_ones_the_first_to_end() -> None:
    store = FactStore()
    old = risk(1, source="a", age=timedelta(minutes=1))
    new, sooner = risk(2, source="b"), risk(3, source="c", lasts=timedelta(minutes=1))
    store.put([old, new, sooner], NOW)
    assert store.get(KEY, RISK, NOW) == sooner
    assert store.get(KEY, RISK, NOW + timedelta(minutes=2)) == new


def test_a_feeder_replaces_what_it_told_before() -> None:
    store = FactStore()
    store.put([risk(1, age=timedelta(minutes=1))], NOW)
    store.put([risk(2, age=timedelta(0))], NOW)
    found = store.get(KEY, RISK, NOW)
    assert found is not None
    assert found.values == {"score": 2}
    store.put([risk(1, age=timedelta(minutes=1))], NOW)  # held up on its way
    assert store.get(KEY, RISK, NOW) == found
    assert store.feeders() == {"feeder": 1}


def test_what_is_unknown_ended_or_of_another_shape_is_missing() -> None:
    store = FactStore()
    store.put([risk(1)], NOW)
    assert store.known([KEY, FactKey("risk", "other"), FactKey("nothing", SETTLER)], TYPES, NOW).keys() == {KEY}
    assert store.get(KEY, RISK, NOW + timedelta(hours=2)) is None
    assert store.get(KEY, RISK.__class__("risk", RISK.subject, {}, RISK.max_age, None, RISK.source), NOW) is None


def test_a_shorter_maximum_age_of_the_policy_in_force_counts_at_once() -> None:
    store = FactStore()
    store.put([risk(1, age=timedelta(minutes=10))], NOW)
    assert store.get(KEY, replace(RISK, max_age=timedelta(minutes=10, seconds=1)), NOW) is not None
    assert store.get(KEY, replace(RISK, max_age=timedelta(minutes=10)), NOW) is None


def test_a_feeder_that_tells_too_much_is_refused_whole_and_the_others_are_not() -> None:
    store = FactStore(max_per_feeder=2)
    store.put([risk(1, subject="a"), risk(1, subject="b")], NOW)
    with pytest.raises(AdminRefused) as caught:
        store.put([risk(1, subject="b"), risk(1, subject="c")], NOW)
    assert caught.value.reason is Reason.TOO_MANY_FACTS
    assert store.known([FactKey("risk", "c")], TYPES, NOW) == {}
    store.put([risk(1, subject="c", source="other")], NOW)
    with pytest.raises(AdminRefused):
        store.replace("feeder", [risk(1, subject=name) for name in "xyz"])
    assert store.feeders() == {"feeder": 2, "other": 1}


def test_what_has_ended_makes_room() -> None:
    store = FactStore(max_per_feeder=1)
    store.put([risk(1, subject="a", lasts=timedelta(seconds=1))], NOW)
    store.put([risk(1, subject="b")], NOW + timedelta(seconds=2))
    assert store.feeders() == {"feeder": 1}


def test_replacing_takes_away_what_is_not_told_again() -> None:
    store = FactStore()
    store.put([risk(1, subject="a"), risk(1, subject="b"), risk(1, subject="a", source="other")], NOW)
    store.replace("feeder", [risk(2, subject="b")])
    assert store.known([FactKey("risk", "a"), FactKey("risk", "b")], TYPES, NOW).keys() == {
        FactKey("risk", "a"),
        FactKey("risk", "b"),
    }
    assert store.feeders() == {"feeder": 1, "other": 1}
    store.replace("feeder", [])
    assert store.feeders() == {"feeder": 0, "other": 1}
