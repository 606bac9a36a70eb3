from __future__ import annotations

from agent_client.balancer import FIRST_PAUSE, LONGEST_PAUSE, PROBE_SECONDS, Attempt, Balancer


def of(*addresses: str) -> Balancer:
    return Balancer(addresses, jitter=lambda: 1.0)


def begin(balancer: Balancer, now: float = 0.0, tried: tuple[str, ...] = ()) -> Attempt:
    attempt = Attempt()
    balancer.begin(attempt, now, tried)
    return attempt


def ended(balancer: Balancer, now: float = 0.0, tried: tuple[str, ...] = ()) -> str:
    """Pick an address for a call that is over at once."""
    attempt = begin(balancer, now, tried)
    balancer.end(attempt)
    return attempt.address


def fail(balancer: Balancer, address: str, now: float, at_least: float = 0.0) -> bool:
    others = tuple(other for other in balancer.addresses if other != address)
    attempt = begin(balancer, now, others)
    first = balancer.failed(attempt, now, at_least)
    balancer.end(attempt)
    return first


def test_the_address_with_the_least_calls_under_way_is_next() -> None:
    balancer = of("a", "b", "c")
    first = [begin(balancer).address for _ in range(5)]
    assert first == ["a", "b", "c", "a", "b"]
    assert begin(balancer).address == "c"


def test_an_address_whose_call_ended_is_next() -> None:
    balancer = of("a", "b")
    a, b = begin(balancer), begin(balancer)
    balancer.end(b)
    assert [begin(balancer).address for _ in range(2)] == ["b", "a"]
    balancer.end(a)


def test_equals_take_turns() -> None:
    balancer = of("a", "b", "c")
    assert "".join(ended(balancer) for _ in range(7)) == "abcabca"


def test_an_address_that_was_tried_is_not_tried_again() -> None:
    balancer = of("a", "b", "c")
    assert ended(balancer, tried=("a", "b")) == "c"


def test_an_address_that_failed_is_left_out_for_its_pause() -> None:
    balancer = of("a", "b")
    assert fail(balancer, "a", now=10.0)
    assert [ended(balancer, now=10.0 + FIRST_PAUSE - 0.01) for _ in range(3)] == ["b", "b", "b"]
    assert ended(balancer, now=10.0 + FIRST_PAUSE) == "a"


def test_the_pause_doubles_and_stays_bounded() -> None:
    balancer, now, pauses = of("a", "b"), 0.0, []
    for _ in range(9):
        fail(balancer, "a", now)
        pause = next(step / 2 for step in range(1, 1000) if balancer.ready(now + step / 2) == 2)
        pauses.append(pause)
        now += pause
    assert pauses == [0.5, 1, 2, 4, 8, 16, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]


def test_the_pause_has_jitter() -> None:
    pauses = set()
    for _ in range(20):
        balancer = Balancer(("a", "b"))
        fail(balancer, "a", 0.0)
        pauses.add(balancer._health["a"].out_until)
    assert len(pauses) > 1
    assert all(FIRST_PAUSE / 2 <= pause <= FIRST_PAUSE for pause in pauses)


def test_the_pause_is_not_shorter_than_the_issuer_asks() -> None:
    balancer = of("a", "b")
    fail(balancer, "a", now=0.0, at_least=60.0)
    assert balancer.ready(59.9) == 1
    assert balancer.ready(60.0) == 2


def test_calls_that_fail_together_count_as_one_failure() -> None:
    balancer = of("a", "b")
    together = [begin(balancer, 0.0, ("b",)) for _ in range(50)]
    assert [balancer.failed(attempt, 1.0) for attempt in together] == [True] + [False] * 49
    assert balancer.ready(1.0 + FIRST_PAUSE) == 2


def test_one_call_alone_finds_out_whether_an_address_is_back() -> None:
    """The others would each wait for an answer that may never come."""
    balancer = of("a", "b")
    fail(balancer, "a", now=0.0)
    now = FIRST_PAUSE
    picked = [begin(balancer, now).address for _ in range(4)]
    assert sorted(picked) == ["a", "b", "b", "b"]
    assert balancer.ready(now + PROBE_SECONDS) == 2


def test_an_answer_brings_an_address_back() -> None:
    balancer = of("a", "b")
    fail(balancer, "a", now=0.0)
    probe = begin(balancer, FIRST_PAUSE, ("b",))
    assert balancer.succeeded(probe)
    assert not balancer.succeeded(probe)
    assert balancer.ready(FIRST_PAUSE) == 2
    fail(balancer, "a", now=20.0)
    assert balancer.ready(20.0 + FIRST_PAUSE) == 2  # it begins anew


def test_when_all_are_left_out_the_one_whose_pause_ends_first_is_tried() -> None:
    balancer = of("a", "b", "c")
    fail(balancer, "b", now=0.1)
    fail(balancer, "a", now=0.2)
    fail(balancer, "c", now=0.3)
    assert balancer.ready(0.3) == 0
    assert ended(balancer, now=0.3) == "b"
    assert ended(balancer, now=0.3, tried=("b",)) == "a"


def test_only_the_first_failure_in_a_row_is_news() -> None:
    balancer = of("a", "b")
    assert [fail(balancer, "a", now) for now in (1.0, 2.0, 3.0)] == [True, False, False]


def test_an_attempt_can_be_ended_wherever_it_was_broken_off() -> None:
    balancer = of("a")
    balancer.end(Attempt())
    attempt = begin(balancer)
    balancer.end(attempt)
    balancer.end(attempt)
    assert not balancer._health["a"].under_way


def test_an_attempt_that_is_never_ended_keeps_no_address_out() -> None:
    balancer = of("a", "b")
    fail(balancer, "a", now=0.0)
    begin(balancer, FIRST_PAUSE, ("b",))
    assert balancer.ready(FIRST_PAUSE + PROBE_SECONDS) == 2
