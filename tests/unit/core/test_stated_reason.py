"""The reason that somebody states: what may stand in the ledger for others to read."""

from __future__ import annotations

import pytest

from issuer.core.errors import InvalidTokenRequest
from issuer.core.stated_reason import MAX_WHY, check_why, faults_of_why


@pytest.mark.parametrize("why", ["", "CHG-1042: restore of the orders database", "x" * MAX_WHY, "Grüße, 東京"])
def test_a_reason_for_people_is_taken(why: str) -> None:
    check_why(why)

    assert faults_of_why(why) == []


@pytest.mark.parametrize(
    "why",
    ["x" * (MAX_WHY + 1), "two\nlines", "\x1b[2Jcleared", "\u202ebackwards", "nul\x00"],
    ids=["too long", "two lines", "escape", "right to left", "nul"],
)
def test_a_reason_that_is_too_long_or_commands_a_terminal_is_refused_by_its_field(why: str) -> None:
    with pytest.raises(InvalidTokenRequest) as refused:
        check_why(why)

    assert [fault.field for fault in refused.value.violations] == ["reason"]
