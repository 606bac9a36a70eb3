from __future__ import annotations

import pytest

from issuer.core.policy_faults import MAX_FAULTS, FaultList, PolicyFault, PolicyInvalid, Position, quoted


def test_a_fault_prints_as_a_link_to_its_place() -> None:
    assert str(PolicyFault(Position("a/b.yaml", 3, 5), "is wrong")) == "a/b.yaml:3:5: is wrong"
    assert str(PolicyFault(Position("a.yaml", 0, 0), "is a link")) == "a.yaml: is a link"


def test_no_faults_raise_nothing() -> None:
    FaultList().raise_if_any()


def test_faults_are_raised_together_in_the_order_of_their_places() -> None:
    faults = FaultList()
    for file, line, column in (("b", 1, 1), ("a", 10, 1), ("a", 2, 7), ("a", 2, 3)):
        faults.add(Position(file, line, column), "x")
    with pytest.raises(PolicyInvalid) as caught:
        faults.raise_if_any()
    assert str(caught.value) == "a:2:3: x\na:2:7: x\na:10:1: x\nb:1:1: x"
    assert caught.value.more == 0


def test_only_so_many_faults_are_kept_and_the_rest_counted() -> None:
    faults = FaultList()
    for number in range(MAX_FAULTS + 3):
        assert faults.is_full is (number >= MAX_FAULTS)
        faults.add(Position("a", number + 1, 1), "x")
    with pytest.raises(PolicyInvalid, match="and 3 more") as caught:
        faults.raise_if_any()
    assert (len(caught.value.faults), caught.value.more) == (MAX_FAULTS, 3)


def test_a_message_is_one_bounded_line_whatever_it_quotes() -> None:
    faults = FaultList()
    faults.add(Position("a", 1, 1), "a\n\x1b[2J\u202eb")
    faults.add(Position("a", 2, 1), "x" * 500)
    faults.add(Position("a", 3, 1), "x" * 501)
    with pytest.raises(PolicyInvalid) as caught:
        faults.raise_if_any()
    assert [fault.message for fault in caught.value.faults] == ["a??[2J?b", "x" * 500, "x" * 500 + "..."]


def test_quoted_text_is_escaped_and_cut() -> None:
    assert quoted("a\x1b'") == '"a\\x1b\'"'
    assert quoted("x" * 80) == f"'{'x' * 80}'"
    assert quoted("x" * 81) == f"'{'x' * 80}...'"
