"""Which signals a child still needs."""

from __future__ import annotations

import signal

import pytest

from agent_client.cli.signals import PASSED_ON, Arrived, has_to_be_passed_on

CHILD, OTHER = 100, 200


@pytest.mark.parametrize("number", sorted(PASSED_ON))
def test_what_a_process_sends_us_is_passed_on(number: int) -> None:
    assert has_to_be_passed_on(Arrived(number, by_kernel=False, sender=OTHER), CHILD, leads_session=False)
    assert has_to_be_passed_on(Arrived(number, by_kernel=False, sender=0), CHILD, leads_session=False)


@pytest.mark.parametrize("number", sorted(PASSED_ON))
def test_what_the_child_sent_itself_is_not(number: int) -> None:
    assert not has_to_be_passed_on(Arrived(number, by_kernel=False, sender=CHILD), CHILD, leads_session=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGWINCH])
def test_what_a_terminal_sends_has_reached_the_child(number: int) -> None:
    assert not has_to_be_passed_on(Arrived(number, by_kernel=True, sender=0), CHILD, leads_session=True)


def test_a_hang_up_is_passed_on_by_the_leader_of_the_session_alone() -> None:
    hang_up = Arrived(signal.SIGHUP, by_kernel=True, sender=0)
    assert has_to_be_passed_on(hang_up, CHILD, leads_session=True)
    assert not has_to_be_passed_on(hang_up, CHILD, leads_session=False)


def test_others_are_not_ours_to_pass_on() -> None:
    assert not has_to_be_passed_on(Arrived(signal.SIGALRM, by_kernel=False, sender=OTHER), CHILD, leads_session=True)
