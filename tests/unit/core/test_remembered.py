"""What is remembered, for how long, and what makes room."""

from __future__ import annotations

from issuer.core.remembered import Remembered


def test_what_was_not_asked_for_the_longest_makes_room() -> None:
    kept: Remembered[str, int] = Remembered(2)
    kept.put("a", 1)
    kept.put("b", 2)
    assert kept.get("a") == 1
    kept.put("c", 3)
    assert (kept.get("a"), kept.get("b"), kept.get("c"), len(kept)) == (1, None, 3, 2)


def test_it_is_kept_for_its_time_since_it_was_found_out_however_often_it_is_asked_for() -> None:
    kept: Remembered[str, int] = Remembered(2, seconds=10)
    kept.put("a", 1, now=100)
    assert kept.get("a", now=109) == 1
    assert kept.get("a", now=110) is None
    assert len(kept) == 0
    kept.put("a", 2, now=110)
    assert kept.get("a", now=119) == 2
