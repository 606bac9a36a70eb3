"""When a stream of revocations is begun again, what the log says of it, and which arguments make sense."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
from support.dead_tokens import beginning, position

from agent_client import ClientClosed, IssuerTimedOut, IssuerUnavailable, RpcNotAllowed
from agent_client.following import Replaced
from agent_client.verification.revocations_keeping import RevocationKeeper
from agent_client.verification.revocations_set import TooManyRevoked
from agent_client.verification.revocations_state import BeginAnew

SILENCE = timedelta(seconds=30)
PASSING = [IssuerUnavailable("away"), IssuerTimedOut("quiet"), BeginAnew("x"), ValueError("odd")]
LASTING = [RpcNotAllowed("serves nothing"), TooManyRevoked(), ClientClosed("closed")]


def keeper(**options: Any) -> RevocationKeeper:
    usual: dict[str, Any] = {"max_silence": SILENCE, "unknown_allowed": (), "max_kept": 10}
    return RevocationKeeper(**usual | options)


@pytest.mark.parametrize("silence", [timedelta(seconds=4.9), timedelta(hours=1, seconds=1)])
def test_silence_is_bounded(silence: timedelta) -> None:
    with pytest.raises(ValueError, match="max_silence"):
        keeper(max_silence=silence)


def test_arguments_that_make_no_sense_are_refused() -> None:
    with pytest.raises(TypeError, match="unknown_allowed"):
        keeper(unknown_allowed="ledger.read")
    with pytest.raises(ValueError, match="max_kept"):
        keeper(max_kept=0)


@pytest.mark.parametrize(
    ("silence", "quiet"), [(5, 4), (10, 5), (30, 15), (3600, 15)], ids=["least", "short", "usual", "long"]
)
def test_a_quiet_stream_is_given_up_before_silence_is_over_where_there_is_time(silence: int, quiet: int) -> None:
    assert keeper(max_silence=timedelta(seconds=silence)).quiet == quiet


@pytest.mark.parametrize("ending", [None, Replaced()], ids=str)
def test_an_end_that_is_no_failure_costs_a_moment(ending: Exception | None) -> None:
    made = keeper()
    assert max(made.pause_after(ending) for _ in range(20)) <= 0.05


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_passes_is_tried_again_soon_and_then_every_second(error: Exception) -> None:
    made = keeper()
    pauses = [made.pause_after(error) for _ in range(12)]
    assert pauses[0] <= 0.05
    assert 0.5 <= pauses[-1] <= 1


@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_what_lasts_is_tried_again_at_once_and_then_seldom(error: Exception) -> None:
    """At once, for an SVID that expired is a refusal, too, and the next one is there already."""
    made = keeper()
    assert made.pause_after(error) <= 0.05
    assert made.pause_after(error) == 5
    made.take(beginning())
    made.take(position(1))
    assert made.pause_after(error) <= 0.05, "it had worked in between"


def test_the_log_says_once_what_is_so(caplog: pytest.LogCaptureFixture) -> None:
    made = keeper()
    with caplog.at_level(logging.INFO, "agent_client.verification"):
        for text in ("cannot be reached", "still cannot be reached"):
            made.pause_after(IssuerUnavailable(text))
        for version in (1, 2):
            made.take(beginning())
            made.take(position(version))
    told = [(record.levelname, record.message.partition(":")[0]) for record in caplog.records]
    assert told == [
        ("WARNING", "revocations cannot be followed"),
        ("INFO", "revocations are followed again"),
        ("INFO", "it is known which tokens are revoked"),
    ]
