"""Windows of access at two issuers on one PostgreSQL database, and around crashes: one end, and never half of one."""

from __future__ import annotations

import copy
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from threading import Event, Thread
from typing import TYPE_CHECKING

import psycopg
import pytest
from support.accessible import Accessible, why_not
from support.ledgers import rows
from support.postgres import PostgresServer

from issuer.ledger.reading import LedgerReader
from issuer.ledger.verification import verify_ledger
from issuer_testing.deadline import wait_until
from issuer_testing.issuer_process import IssuerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KNOWN_WITHIN = 10.0
"""Seconds in which the other issuer knows what one ended, on a busy machine; what is promised is two."""
KILLS = 6


class Two:
    """Two issuers on one database."""

    def __init__(self, one: Accessible, other: Accessible, database: str) -> None:
        self.one, self.other = one, other
        self._database = database

    @property
    def both(self) -> tuple[Accessible, Accessible]:
        return self.one, self.other

    def count(self, kind: str) -> int:
        """Return how many events of a kind there are."""
        with closing(psycopg.connect(self._database)) as connection:
            found = connection.execute("SELECT COUNT(*) FROM event WHERE kind = %s", (kind,)).fetchone()
        return int(found[0]) if found else 0

    def tell_risk(self, score: int) -> None:
        """Tell it to both, as feeders do, at once."""
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda each: each.tell_risk(score), self.both))


@pytest.fixture
def two(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    with PostgresServer(tmp_path_factory.mktemp("postgres")) as server:
        database = server.new_database()
        place: dict[str, object] = {"file": None, "postgresql": database}
        with Accessible(tmp_path, ledger=place, issuer={"url": "http://127.0.0.1:9"}) as one:  # one `iss` for both
            other = copy.copy(one)
            other.settings = replace(one.settings, folder=tmp_path / "other")
            shutil.copytree(one.settings.folder / "keys", other.settings.folder / "keys")
            other.issuer = IssuerProcess(other.settings)
            with other.issuer:
                found = Two(one, other, database)
                found.tell_risk(1)
                yield found


def test_a_window_of_one_issuer_is_one_of_the_other_and_ends_at_both(two: Two) -> None:
    window = two.one.start()
    assert two.other.refused(window) == "OK", "known at once, though another issuer opened it"
    tokens = [issuer.under(window).token for issuer in two.both]
    with ThreadPoolExecutor(2) as pool:
        same = pool.map(lambda issuer: issuer.start(request_id="call-7").name, two.both)
    assert len(set(same)) == 1, "one call is one window, whichever issuer answers it"
    two.one.complete(window.name)
    assert two.other.refused(window) in {"ACCESS_ENDED", "REVOKED"}, "at once: what was decided before is not written"
    wait_until(
        lambda: not any(issuer.is_active(token) for issuer in two.both for token in tokens),
        what="all tokens are dead at both",
        seconds=KNOWN_WITHIN,
    )
    assert two.other.stands(window.name)[0] == "COMPLETED"


def test_of_two_issuers_that_end_it_at_the_same_moment_one_writes_it(two: Two) -> None:
    windows = [two.one.start() for _ in range(8)]
    names = [window.name for window in windows]
    assert two.other.stands(names[-1])[0] == "OPEN"
    two.tell_risk(95)
    for issuer in two.both:
        wait_until(
            lambda: all(issuer.stands(name)[0] == "REFUSED" for name in names),  # noqa: B023 - asked in this round
            what="both know that all have ended",
            seconds=KNOWN_WITHIN,
        )
    assert (two.count("access_ended"), two.count("revocation_made")) == (8, 8)
    with ThreadPoolExecutor(8) as pool:
        window = two.one.start() if why_not(two.tell_risk, 1) == "OK" else None
        assert window is not None
        assert two.other.refused(window) == "OK"
        ends = [issuer.end for issuer in two.both] * 4
        assert set(pool.map(lambda end: why_not(end, window.name), ends)) == {"OK"}
    assert two.count("access_ended") == 9


def test_the_other_issuer_ends_it_when_one_is_gone(two: Two) -> None:
    window = two.one.start()
    token = two.one.under(window).token
    two.one.issuer.signal(signal.SIGKILL)
    two.one.issuer.wait()
    wait_until(lambda: two.other.is_active(token), what="the other knows the token", seconds=KNOWN_WITHIN)
    two.other.tell_risk(95)
    wait_until(lambda: not two.other.is_active(token), what="the token is dead", seconds=KNOWN_WITHIN)
    assert two.other.stands(window.name)[0] == "REFUSED"
    two.one.issuer.start()
    assert not two.one.is_active(token)
    assert two.one.stands(window.name)[0] == "REFUSED"


def test_a_window_is_one_to_every_worker_and_ends_in_all_of_them(tmp_path: Path) -> None:
    with Accessible(tmp_path, server={"workers": 2}) as issuer:
        issuer.tell_risk(1)
        windows = [issuer.start() for _ in range(4)]
        tokens = [issuer.under(window).token for window in windows for _ in range(2)]  # each on a connection of its own
        issuer.complete(windows[0].name)
        assert {issuer.refused(windows[0]) for _ in range(4)} <= {"ACCESS_ENDED", "REVOKED"}
        issuer.tell_risk(95)
        wait_until(
            lambda: not any(issuer.is_active(token) for token in tokens for _ in range(2)),
            what="every token is dead to every worker",
            seconds=KNOWN_WITHIN,
        )
        assert {issuer.stands(window.name)[0] for window in windows[1:]} == {"REFUSED"}
    ledger = tmp_path / "issuer" / "ledger" / "ledger.sqlite3"
    assert rows(ledger, "SELECT COUNT(*) FROM event WHERE kind = 'access_ended'") == [(4,)]


def test_no_crash_leaves_an_end_without_the_death_of_its_tokens(tmp_path: Path) -> None:
    ledger = tmp_path / "issuer" / "ledger" / "ledger.sqlite3"
    answered: set[str] = set()
    with Accessible(tmp_path) as issuer:
        issuer.tell_risk(1)
        for kill in range(KILLS):
            names = [issuer.start().name for _ in range(6)]
            tokens = {name: issuer.under(name).token for name in names}
            begun = Event()

            def complete(names: list[str] = names, begun: Event = begun) -> None:
                for name in names:
                    begun.set()
                    if why_not(issuer.complete, name) == "OK":
                        answered.add(name)

            completing = Thread(target=complete)
            completing.start()
            begun.wait()
            wait_until(lambda: len(answered & set(names)) >= kill % 3, what="some were completed", seconds=5)  # noqa: B023
            issuer.issuer.signal(signal.SIGKILL)
            issuer.issuer.wait()
            completing.join()
            issuer.issuer.start()
            issuer.tell_risk(1)
            for name in names:
                is_over = issuer.stands(name)[0] == "COMPLETED"
                assert is_over is not issuer.is_active(tokens[name]), "an end and its revocation are one commit"
                assert is_over or name not in answered, "what was answered holds"
                issuer.complete(name)
        assert not any(map(issuer.is_active, tokens.values()))
    ends = "SELECT COUNT(*) FROM event WHERE kind = 'access_ended'"
    assert rows(ledger, ends) == rows(ledger, "SELECT COUNT(*) FROM revocation") == [(6 * KILLS,)]
    assert verify_ledger(LedgerReader.sqlite(ledger)).faults == ()
