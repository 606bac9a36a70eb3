from __future__ import annotations

from datetime import timedelta

import pytest

from agent_client.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5m", 300), ("1h", 3600), ("1h30m", 5400), ("1h1m1s", 3661), ("0m1s", 1)]
)
def test_reads_what_people_write(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "5", "s", "0s", "-1s", "1.5m", "5 m", "1m1h", "99999h", "5m\n", "\N{ARABIC-INDIC DIGIT FIVE}m"]
)
def test_refuses_everything_else(text: str) -> None:
    with pytest.raises(ValueError, match="1h30m"):
        parse_duration(text)
