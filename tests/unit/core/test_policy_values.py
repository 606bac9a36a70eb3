from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from issuer.core import policy_values as values


@pytest.mark.parametrize("text", ["a", "settlement-writes-ledger", "team/a.b_c-1", "A" * 128])
def test_ids_of_rules(text: str) -> None:
    assert values.rule_id(text) == text


@pytest.mark.parametrize("text", ["", "-a", "/a", "a b", "ä", "a\n", "A" * 129])
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(ValueError, match="an id is 1 to 128"):
        values.rule_id(text)


@pytest.mark.parametrize(("text", "expected"), [("1s", 1), ("90s", 90), ("1h30m", 5400), ("366d", 366 * 86400)])
def test_lifetimes(text: str, expected: int) -> None:
    assert values.ttl(text) == timedelta(seconds=expected)


@pytest.mark.parametrize("text", ["", "0s", "90", "1.5h", "-1s", "367d", "366d1s", "1 h", "soon"])
def test_what_is_no_lifetime(text: str) -> None:
    with pytest.raises(ValueError, match=r"lifetime|duration"):
        values.ttl(text)


@pytest.mark.parametrize(
    ("text", "begins", "ends"),
    [
        ("2027-06-30", datetime(2027, 6, 30, tzinfo=UTC), datetime(2027, 7, 1, tzinfo=UTC)),
        ("2028-02-29", datetime(2028, 2, 29, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)),
    ],
)
def test_a_day_lasts_from_its_first_moment_to_the_first_of_the_next(
    text: str, begins: datetime, ends: datetime
) -> None:
    assert values.not_before(text) == begins
    assert values.expires(text) == ends


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2027-06-30T12:00:00Z", datetime(2027, 6, 30, 12, tzinfo=UTC)),
        ("2027-06-30 12:00:01Z", datetime(2027, 6, 30, 12, 0, 1, tzinfo=UTC)),
        ("2027-06-30T12:00Z", datetime(2027, 6, 30, 12, tzinfo=UTC)),
        ("2027-06-30T12:00:00+02:00", datetime(2027, 6, 30, 10, tzinfo=UTC)),
        ("2027-06-30T23:30:00-01:00", datetime(2027, 7, 1, 0, 30, tzinfo=UTC)),
    ],
)
def test_a_moment_is_itself(text: str, expected: datetime) -> None:
    assert values.not_before(text) == values.expires(text) == expected
    assert values.expires(text).tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tomorrow",
        "2027",
        "20270630",
        "2027-W26-3",
        "2027-6-30",
        "2027-02-30",
        "2027-06-30T12:00:00",
        "2027-06-30T12Z",
        "2027-06-30T12:00:00.5Z",
        "2027-06-30T25:00:00Z",
        "2027-06-30T12:00:00+25:00",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:30:00-01:00",
        "2027-06-30T12:00:00Z\n",
    ],
)
def test_what_is_no_date(text: str) -> None:
    for read in (values.not_before, values.expires):
        with pytest.raises(ValueError, match=r".+"):
            read(text)


def test_the_last_day_of_the_calendar_has_a_beginning_and_no_end() -> None:
    assert values.not_before("9999-12-31") == datetime(9999, 12, 31, tzinfo=UTC)
    with pytest.raises(ValueError, match="no day after"):
        values.expires("9999-12-31")


@pytest.mark.parametrize(
    ("read", "good", "bad"),
    [
        (values.audience, "https://ledger.example", ["", "a b", "ä", "*", "a" * 2049]),
        (values.scope, "ledger.read", ["", "a b", 'a"', "a\\", "a" * 129]),
        (values.application, "payments", ["", "a b", "-a", "a" * 129]),
        (values.owner, "team-a <a@example>", ["a" * 257]),
        (values.description, "why\nand how", ["a" * 4097]),
    ],
)
def test_names_are_what_a_request_can_name(read: object, good: str, bad: list[str]) -> None:
    assert callable(read)
    assert read(good) == good
    for text in bad:
        with pytest.raises(ValueError, match=r".+"):
            read(text)


def test_equal_texts_share_one_value() -> None:
    shared = values.SharedValues()
    assert shared.pattern("spiffe://td/a/*") is shared.pattern("spiffe://td/a/" + "*")
    assert shared.pattern("spiffe://td/a/*").shape is shared.pattern("spiffe://td/b/*").shape
    assert shared.expires("2027-06-30") is shared.expires("2027-06-" + "30")
    assert shared.scope_set(frozenset({"a", "b"})) is shared.scope_set(frozenset({"b", "a"}))
