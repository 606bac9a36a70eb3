"""The signing key is changed at two issuers that share a PostgreSQL ledger; one with other keys does not serve."""

from __future__ import annotations

import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import grpc
import pytest
from support.commands import issuer_command
from support.replicas import KNOWN_WITHIN, Replicas, Watching, database_of, key_set_of, verify
from support.revocations import OPERATOR
from support.rotating import ACTIVE, NEXT, Rotating, kid_of

from issuer.ledger.reading import LedgerReader
from issuer.ledger.verification import verify_ledger
from issuer_testing.deadline import wait_until
from issuer_testing.issuer_process import IssuerDidNotStart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LACKS = "sign by keys that this one lacks"


@pytest.fixture
def alone(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    """Two of which one runs."""
    with database_of(tmp_path_factory.mktemp("postgres")) as database:
        replicas = Replicas(tmp_path, database)
        with replicas.one:
            yield replicas


@pytest.fixture
def two(alone: Replicas) -> Iterator[Replicas]:
    with alone.other.issuer:
        yield alone


def kill(issuer: Rotating) -> None:
    issuer.issuer.signal(signal.SIGKILL)
    issuer.issuer.wait()


def test_tokens_of_both_verify_by_either_key_set_whatever_is_done_at_one_that_is_then_killed(two: Replicas) -> None:
    (old,) = two.one.keys()
    with Watching(two) as watching:
        watching.sees(old)
        new = two.one.prepare()
        kill(two.one)
        wait_until(lambda: two.other.in_state(NEXT) == [new], what="the other has it too", seconds=KNOWN_WITHIN)
        two.one.issuer.start()
        two.agree_on([old, new])
        wait_until(
            lambda: two.other.activate(new) == "OK", what="every verifier can know the key", seconds=KNOWN_WITHIN
        )
        kill(two.other)
        wait_until(lambda: two.one.in_state(ACTIVE) == [new], what="one follows it", seconds=KNOWN_WITHIN)
        two.other.issuer.start()
        two.agree_on([new, old])
        watching.sees(new)
        assert two.one.remove(old, force=True) == "OK"
        kill(two.one)
        wait_until(lambda: two.other.published(two.other.issuer.url) == [new], what="it is gone", seconds=KNOWN_WITHIN)
        two.one.issuer.start()
        two.agree_on([new])
        watching.sees(new)
    assert watching.rejected == []
    assert watching.verified.keys() == {old, new}
    assert verify_ledger(LedgerReader.postgres(two.database)).faults == ()


def test_a_crash_in_the_middle_of_a_change_at_one_leaves_both_with_every_key_that_signed(two: Replicas) -> None:
    """Killed as soon as its first trace is seen, wherever that is in the step."""
    tokens = [each.token() for each in two.both]
    next_file = two.key_file.with_name("signing-key.next.pem")

    def killed_when(trace: Callable[[], bool], change: Callable[[], object]) -> None:
        with ThreadPoolExecutor(1) as pool:
            changing = pool.submit(change)
            wait_until(trace, what="the change has begun", seconds=KNOWN_WITHIN)
            kill(two.one)
            with suppress(grpc.RpcError):
                changing.result()
        tokens.append(two.other.token())
        two.one.issuer.start()
        tokens.extend(each.token() for each in two.both)

    killed_when(next_file.exists, two.one.prepare)
    new = two.other.prepare()
    killed_when(lambda: ("key_activated", new) in two.events(), lambda: two.one.activate(new, force=True))
    assert two.other.activate(new, force=True) == "OK", "again, where it was not finished"
    for each in two.both:
        wait_until(lambda: each.in_state(ACTIVE) == [new], what="both sign by it", seconds=KNOWN_WITHIN)  # noqa: B023
    tokens.extend(each.token() for each in two.both)
    for issuer in two.both:
        keys = key_set_of(issuer)
        assert keys is not None
        for token in tokens:
            verify(token, keys)
    (old,) = {kid_of(token) for token in tokens} - {new}
    killed_when(lambda: ("key_removed", old) in two.events(), lambda: two.one.remove(old, force=True))
    assert two.other.remove(old, force=True) == "OK"
    two.agree_on([new])
    assert verify_ledger(LedgerReader.postgres(two.database)).faults == ()


def test_what_is_asked_of_both_at_the_same_moment_is_done_once(two: Replicas) -> None:
    (old,) = two.one.keys()
    with ThreadPoolExecutor(2) as pool:
        (new,) = set(pool.map(Rotating.prepare, two.both))
        outcomes = list(pool.map(lambda each: each.activate(new, force=True), two.both))
        assert "OK" in outcomes
        assert set(outcomes) <= {"OK", "SIGNER_UNAVAILABLE"}, "the file was renamed by the other in this moment"
    two.agree_on([new, old])
    assert [two.events().count((kind, new)) >= 1 for kind in ("key_prepared", "key_activated")] == [True, True]
    with ThreadPoolExecutor(2) as pool:
        assert set(pool.map(lambda each: each.remove(old, force=True), two.both)) == {"OK"}
    two.agree_on([new])
    assert verify_ledger(LedgerReader.postgres(two.database)).faults == ()


def own_keys(replicas: Replicas, name: str, **options: dict[str, object]) -> Rotating:
    """Return an issuer on the same database with a folder of keys of its own, not started."""
    return replicas.another(name, keys={"file": str(replicas.key_file.parent.with_name(name) / "key.pem")}, **options)


def test_an_issuer_with_a_key_of_its_own_does_not_start_on_a_ledger_of_others(alone: Replicas) -> None:
    (old,) = alone.one.keys()
    stray = own_keys(alone, "stray")
    with pytest.raises(IssuerDidNotStart, match=f"{LACKS}.*{old}.*their folder of keys.*issuer keys forget"):
        stray.issuer.start()
    assert stray.issuer.wait() == 1
    assert alone.one.outcome() == "OK"
    assert alone.events() == [("key_activated", old)], "nothing is told of its key"
    shutil.copytree(alone.key_file.parent, alone.key_file.parent.with_name("alike"), copy_function=shutil.copy2)
    alike = alone.another(
        "alike-issuer", keys={"file": str(alone.key_file.parent.with_name("alike") / "signing-key.pem")}
    )
    with alike.issuer:
        assert kid_of(alike.token()) == old


def test_the_ledger_knows_its_keys_though_the_entries_that_tell_of_them_were_pruned(alone: Replicas) -> None:
    (old,) = alone.one.keys()

    def are_pruned() -> bool:
        prune(alone)
        return alone.events() == []

    wait_until(are_pruned, what="the entries are a second old", seconds=KNOWN_WITHIN)
    with pytest.raises(IssuerDidNotStart, match=f"{LACKS}.*{old}"):
        own_keys(alone, "stray").issuer.start()
    assert verify_ledger(LedgerReader.postgres(alone.database)).faults == ()


def prune(replicas: Replicas) -> None:
    """Prune what is older than a second."""
    config = str(replicas.one.settings.folder / "issuer.toml")
    arguments = ("ledger", "prune", "--older-than", "1s", "--config", config)
    assert issuer_command(replicas.one, *arguments, identity=OPERATOR).returncode == 0


def test_of_two_that_begin_a_ledger_with_different_keys_at_the_same_moment_one_serves(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with database_of(tmp_path_factory.mktemp("postgres")) as database:
        replicas = Replicas(tmp_path, database)
        both = replicas.one, own_keys(replicas, "stray")

        def start(deployment: Rotating) -> str:
            try:
                deployment.issuer.start()
            except IssuerDidNotStart as error:
                return str(error)
            return "OK"

        try:
            with ThreadPoolExecutor(2) as pool:
                outcomes = list(pool.map(start, both))
            assert "OK" in outcomes, outcomes
            (refused,) = (each for each in outcomes if each != "OK")
            assert LACKS in refused
        finally:
            for each in both:
                each.issuer.stop()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_running_issuer_that_lacks_a_key_by_which_others_sign_stops(alone: Replicas, workers: int) -> None:
    """Its folder is kept alike by hand, and nobody did."""
    (old,) = alone.one.keys()
    copied = alone.key_file.parent.with_name("copied")
    shutil.copytree(alone.key_file.parent, copied, copy_function=shutil.copy2)
    other = alone.another(
        "other", keys={"file": str(copied / "signing-key.pem")}, server={"listen": "127.0.0.1:0", "workers": workers}
    )
    with other.issuer:
        new = alone.one.prepare()
        assert alone.one.activate(new, force=True) == "OK"
        assert LACKS in other.issuer.wait_for("keys_refused")["error"]
        assert other.issuer.wait(within=60) == 1
        assert any(LACKS in line.get("text", "") for line in other.issuer.log()), "said to who started it"
    assert alone.one.outcome() == "OK"
    shutil.copytree(alone.key_file.parent, copied, copy_function=shutil.copy2, dirs_exist_ok=True)
    with other.issuer:
        assert kid_of(other.token()) == new
        assert other.in_state(ACTIVE) == [new]
    assert old in alone.one.published(alone.one.issuer.url)


def test_a_lost_folder_of_keys_is_a_loss_that_a_person_has_to_confirm(alone: Replicas) -> None:
    (old,) = alone.one.keys()
    lost = alone.one.token()
    alone.one.issuer.stop()
    shutil.rmtree(alone.key_file.parent)
    with pytest.raises(IssuerDidNotStart, match=LACKS):
        alone.one.issuer.start()
    config = str(alone.one.settings.folder / "issuer.toml")

    def forget(key_id: str) -> tuple[int, str]:
        ended = issuer_command(alone.one, "keys", "forget", key_id, "--config", config, identity=OPERATOR)
        return ended.returncode, ended.stdout + ended.stderr

    assert forget("x" * 43) == (1, f"issuer: the ledger names no such key; those that it names are: {old}\n")
    assert forget(old)[0] == 0
    alone.one.issuer.start()
    (new,) = alone.one.keys()
    assert kid_of(alone.one.token()) == new != old
    assert not alone.one.is_active(lost)
    assert alone.events() == [("key_activated", old), ("key_removed", old), ("key_activated", new)]
    assert verify_ledger(LedgerReader.postgres(alone.database)).faults == ()


def test_a_folder_of_keys_from_a_backup_that_is_older_than_the_last_rotation_is_refused(alone: Replicas) -> None:
    (old,) = alone.one.keys()
    backup = alone.key_file.parent.with_name("backup")
    shutil.copytree(alone.key_file.parent, backup, copy_function=shutil.copy2)
    new = alone.one.prepare()
    assert alone.one.activate(new, force=True) == "OK"
    assert alone.one.remove(old, force=True) == "OK"
    alone.one.issuer.stop()
    newest = alone.key_file.parent.rename(backup.with_name("newest"))
    backup.rename(alone.key_file.parent)
    with pytest.raises(IssuerDidNotStart, match=f"{LACKS}.*{new}"):
        alone.one.issuer.start()
    config = str(alone.one.settings.folder / "issuer.toml")
    assert issuer_command(alone.one, "keys", "forget", new, "--config", config, identity=OPERATOR).returncode == 0
    with pytest.raises(IssuerDidNotStart, match=f"{old}.*was taken away.*move this one away"):
        alone.one.issuer.start()
    alone.key_file.parent.rename(backup)
    alone.one.issuer.start()
    assert not {old, new} & {*alone.one.keys()}
    alone.one.issuer.stop()
    alone.key_file.parent.rename(backup.with_name("in between"))
    newest.rename(alone.key_file.parent)
    with pytest.raises(IssuerDidNotStart, match=LACKS):
        alone.one.issuer.start()
