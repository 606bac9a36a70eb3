import pytest

from bench.suite_plan import ALL, GO_NULL, HANDSHAKES, OIDC, OTHER_LEDGERS, SPIRE, Level, plan
from bench.transports import TRANSPORTS
from bench.wire import field

RUNS, SECONDS, BETWEEN_SECONDS = 3, 2.0, 0.5
STARTING_SECONDS = 40.0
TEN_MINUTES = 600.0


def test_every_transport_and_every_ledger_is_measured_beside_every_reference() -> None:
    subjects = plan()
    found = {(subject.transport, subject.ledger) for subject in subjects if subject.work == "token"}
    assert {(transport, "SQLite") for transport in TRANSPORTS} < found
    assert {("native", ledger) for ledger in OTHER_LEDGERS} < found
    assert {SPIRE, OIDC, GO_NULL} <= {subject.name for subject in subjects}


def test_one_and_many_callers_are_on_their_own_connections_and_some_share_one() -> None:
    assert {Level(count, count) for count in (1, 16, 64, 256)} < set(ALL)
    assert any(level.connections == 1 < level.callers for level in ALL)


def test_names_tell_subjects_apart() -> None:
    names = [subject.name for subject in plan()]
    assert len(set(names)) == len(names)


def test_it_ends_within_ten_minutes_by_default() -> None:
    loads = sum(len(subject.levels) + len(HANDSHAKES) * subject.handshakes for subject in plan())
    assert STARTING_SECONDS + RUNS * loads * (SECONDS + BETWEEN_SECONDS) < TEN_MINUTES


def test_the_quick_one_is_a_small_part() -> None:
    assert sum(len(subject.levels) for subject in plan(quick=True)) * 3 < sum(len(each.levels) for each in plan())


def test_a_field_is_written_as_protobuf_writes_it() -> None:
    assert field(1, b"id") == b"\x0a\x02id"
    assert field(2, b"x") == b"\x12\x01x"
    with pytest.raises(ValueError, match="128"):
        field(1, bytes(128))
