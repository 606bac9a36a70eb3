from __future__ import annotations

import pytest

from issuer_testing.deadline import DeadlineExceeded, wait_until


def test_the_first_true_value_is_returned() -> None:
    answers = iter(["", None, "third"])
    assert wait_until(lambda: next(answers), what="it is there", seconds=5) == "third"


def test_the_condition_is_asked_once_even_without_time() -> None:
    assert wait_until(lambda: True, what="it is there", seconds=0)


def test_giving_up_names_the_condition_and_what_was_known() -> None:
    with pytest.raises(DeadlineExceeded, match=r"after 0 s waiting until the door opens\nit is locked"):
        wait_until(lambda: False, what="the door opens", seconds=0, detail=lambda: "it is locked")


def test_what_the_condition_raises_ends_the_waiting() -> None:
    def fail() -> bool:
        raise LookupError

    with pytest.raises(LookupError):
        wait_until(fail, what="it is there", seconds=60)
