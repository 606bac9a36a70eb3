from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issuer.core.fact_text import facts_from_text, facts_text
from issuer.core.facts import Fact, FactValue

MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(),
    MOMENTS,
    st.timedeltas(timedelta(days=-1000), timedelta(days=1000)),
    st.lists(st.text()).map(tuple),
)
FACTS = st.builds(
    Fact,
    type=st.text(),
    subject=st.text(),
    values=st.dictionaries(st.text(), VALUES),
    source=st.text(),
    observed_at=MOMENTS,
    expires_at=MOMENTS,
    caller=st.none() | st.text(),
    audience=st.none() | st.text(),
)


def fact(name: str, value: FactValue) -> Fact:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return Fact("posture", name, {"x": value}, "file:a", moment, moment + timedelta(hours=1))


@given(st.lists(FACTS, unique_by=lambda each: each.key))
def test_what_is_read_back_is_what_was_written_types_included(facts: list[Fact]) -> None:
    read = facts_from_text(facts_text(facts))
    assert read == {each.key: each for each in facts}
    for each in facts:
        assert [type(value) for value in read[each.key].values.values()] == [
            type(each.values[name]) for name in read[each.key].values
        ]


def test_the_order_of_facts_does_not_change_the_text() -> None:
    two = [fact("a", 1), fact("b", 2)]
    assert facts_text(two) == facts_text(reversed(two))


def test_one_and_true_are_told_apart() -> None:
    assert facts_text([fact("a", 1)]) != facts_text([fact("a", value=True)])


def test_no_text_holds_no_facts() -> None:
    assert facts_from_text("") == {}


def test_text_of_another_kind_is_refused() -> None:
    with pytest.raises(KeyError):
        facts_from_text(facts_text([fact("a", 1)]).replace("int", "ant"))
