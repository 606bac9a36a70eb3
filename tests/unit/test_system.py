import uuid
from datetime import UTC, datetime, timedelta

from issuer.system import RandomIds, SystemClock

NOW = datetime(2026, 11, 24, 12, 0, 0, 123000, tzinfo=UTC)


def test_a_decision_id_is_a_uuid_of_version_7_with_its_time() -> None:
    value = uuid.UUID(RandomIds().decision_id(NOW))
    assert (value.version, value.variant) == (7, uuid.RFC_4122)
    assert value.int >> 80 == int(NOW.timestamp() * 1000)


def test_decision_ids_sort_by_time() -> None:
    ids = [RandomIds().decision_id(NOW + timedelta(milliseconds=n)) for n in range(50)]
    assert ids == sorted(ids)


def test_ids_do_not_repeat() -> None:
    ids = RandomIds()
    assert len({ids.decision_id(NOW) for _ in range(1000)} | {ids.token_id() for _ in range(1000)}) == 2000


def test_the_clock_is_in_utc() -> None:
    assert SystemClock().now().utcoffset() == timedelta(0)
