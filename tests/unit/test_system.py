import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from issuer.system import RandomIds, SystemClock

NOW = datetime(2026, 11, 24, 12, 0, 0, 123000, tzinfo=UTC)


def test_an_id_is_a_uuid_of_version_7_with_its_time() -> None:
    value = uuid.UUID(RandomIds().fresh_id(NOW))
    assert (value.version, value.variant) == (7, uuid.RFC_4122)
    assert value.int >> 80 == int(NOW.timestamp() * 1000)


def test_ids_sort_by_time() -> None:
    ids = [RandomIds().fresh_id(NOW + timedelta(milliseconds=n)) for n in range(50)]
    assert ids == sorted(ids)


def test_ids_do_not_repeat() -> None:
    ids = RandomIds()
    assert len({ids.fresh_id(NOW) for _ in range(1000)}) == 1000


def test_the_clock_is_in_utc() -> None:
    assert SystemClock().now().utcoffset() == timedelta(0)


def test_no_id_comes_twice_whichever_thread_asks() -> None:
    ids = RandomIds()
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: [ids.fresh_id(NOW) for _ in range(500)], range(8)))
    assert len({each for some in found for each in some}) == 8 * 500


FORKING = """
import os
from datetime import UTC, datetime
from issuer.system import RandomIds
now = datetime(2026, 11, 24, tzinfo=UTC)
ids = RandomIds()
ids.fresh_id(now)  # so that there is something left that both could give away
child = os.fork()
if child:
    os.waitpid(child, 0)  # one after the other, so that their lines do not mix
print("\\n".join(ids.fresh_id(now) for _ in range(300)), flush=True)
"""


def test_a_forked_process_gives_away_none_of_its_parent_s_ids() -> None:
    told = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, check=True).stdout.split()
    assert (len(told), len(set(told))) == (600, 600)
