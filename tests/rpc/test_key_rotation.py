"""The signing key is changed while the issuer runs: no token is refused that was good, and none signs unpublished."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from support.commands import issuer_command
from support.deployment import DEADLINE
from support.eventually import eventually
from support.ledgers import rows
from support.revocations import OPERATOR
from support.rotating import ACTIVE, GONE, NEXT, RETIRED, Rotating, kid_of
from support.workers import Load, channel_to_each, is_alive, kill_and_await_the_next, workers_of

from agent_client.verification import TokenRejected
from issuer.ledger.reading import LedgerReader
from issuer.ledger.verification import verify_ledger
from issuer.signing.key_file import KeyFileSigner
from issuer_api.v1 import admin_service_pb2 as admin
from issuer_api.v1 import admin_service_pb2_grpc as admin_grpc
from issuer_api.v1 import issuer_service_pb2 as pb
from issuer_api.v1 import issuer_service_pb2_grpc as pb_grpc
from issuer_testing.issuer_process import IssuerProcess

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    import grpc

TWO: dict[str, object] = {"workers": 2}


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Rotating]:
    with Rotating(tmp_path) as deployment:
        yield deployment


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Rotating]:
    with Rotating(tmp_path, server=TWO) as deployment:
        yield deployment


def events(folder: Path) -> list[tuple[str, str, str]]:
    """Return what the ledger tells of keys: kind, how, and who did it."""
    found = rows(
        folder / "issuer" / "ledger" / "ledger.sqlite3",
        "SELECT kind, detail, actor FROM event WHERE kind LIKE 'key_%' ORDER BY seq",
    )
    return [(kind, json.loads(detail)["how"], actor.rpartition("/")[2]) for kind, detail, actor in found]


def test_a_next_key_is_published_and_does_not_sign_until_every_verifier_can_know_it(
    one: Rotating, tmp_path: Path
) -> None:
    (old,) = one.keys()
    keys = one.key_source()
    with one.verifier(keys) as verifier:
        before = one.token()
        verifier.verify(before)
        new = one.prepare()
        assert one.activate(new) == "KEY_CHANGE_REFUSED", "verifiers may still keep the set without it"
        assert one.prepare() == new, "there is one next key"
        eventually(lambda: one.published() == [old, new])
        assert kid_of(one.token()) == old
        verifier.warm_up()
        fetches = keys.fetches
        eventually(lambda: one.activate(new) == "OK")
        assert one.activate(new) == "OK", "it is the active one already"
        after = one.token()
        assert (kid_of(before), kid_of(after)) == (old, new)
        verifier.verify(after)
        verifier.verify(before)
        assert keys.fetches == fetches, "who fetched while it was next need not ask again"
    assert one.in_state(RETIRED) == [old]
    assert one.published() == [new, old]
    assert one.is_active(before)
    assert one.is_active(after)
    assert events(tmp_path) == [
        ("key_activated", "start", ""),
        ("key_prepared", "operator", "operator"),
        ("key_activated", "operator", "operator"),
    ]


def test_a_verifier_that_missed_a_forced_key_asks_once(one: Rotating) -> None:
    keys = one.key_source()
    with one.verifier(keys) as verifier:
        before = one.token()
        verifier.verify(before)
        new = one.prepare()
        assert one.activate(new, force=True) == "OK"
        after = one.token()
        assert kid_of(after) == new
        fetches = keys.fetches
        for token in (after, before, one.token()):
            verifier.verify(token)
        assert keys.fetches == fetches + 1
    assert one.issuer.wait_for("key_forced")["kid"] == new


def test_nothing_is_lost_in_a_restart_and_private_halves_stay_private(one: Rotating) -> None:
    (old,) = one.keys()
    before = one.token()
    new = one.prepare()
    one.activate(new, force=True)
    later = one.prepare()
    one.issuer.signal(signal.SIGKILL)
    one.issuer.wait()
    one.issuer.start()
    assert {kid: each.state for kid, each in one.keys().items()} == {later: NEXT, new: ACTIVE, old: RETIRED}
    assert set(one.published()) == {later, new, old}
    assert kid_of(one.token()) == new
    assert one.is_active(before)
    folder = one.key_file.parent
    assert {stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()} == {0o600}
    assert sorted(each.name for each in folder.iterdir()) == [
        "signing-key.keys.json",
        "signing-key.next.pem",
        "signing-key.pem",
    ], "the private half of the retired key is gone, and nothing else is left"
    secret = (folder / "signing-key.pem").read_text().splitlines()[1]
    assert secret not in (folder / "signing-key.keys.json").read_text()
    assert secret not in json.dumps(one.issuer.log())


def test_a_crash_between_two_steps_of_an_activation_leaves_every_key_published(one: Rotating) -> None:
    """The rename is done, and nothing after it: as if the process had ended there."""
    (old,) = one.keys()
    before, new = one.token(), one.prepare()
    one.issuer.signal(signal.SIGKILL)
    one.issuer.wait()
    one.key_file.with_name("signing-key.next.pem").rename(one.key_file)
    one.issuer.start()
    assert {kid: each.state for kid, each in one.keys().items()} == {new: ACTIVE, old: RETIRED}
    assert one.is_active(before)


def test_a_deployment_of_before_goes_on_with_its_one_key_file(tmp_path: Path) -> None:
    """As a version without rotation left it: one file, nothing beside it."""
    deployment = Rotating(tmp_path)
    signer = KeyFileSigner.open_or_create(deployment.key_file)
    with deployment:
        assert kid_of(deployment.token()) == signer.key_id
        assert deployment.published() == [signer.key_id]


def test_a_key_that_was_replaced_by_hand_leaves_the_one_before_published(one: Rotating, tmp_path: Path) -> None:
    (old,) = one.keys()
    before = one.token()
    one.issuer.stop()
    other = KeyFileSigner.open_or_create(tmp_path / "other" / "key.pem")
    shutil.copy(tmp_path / "other" / "key.pem", one.key_file)
    one.issuer.start()
    assert {kid: each.state for kid, each in one.keys().items()} == {other.key_id: ACTIVE, old: RETIRED}
    assert one.is_active(before)
    assert ("key_activated", "start", "") in events(tmp_path)[1:]


def test_a_key_file_that_is_replaced_under_a_running_issuer_signs_nothing(one: Rotating, tmp_path: Path) -> None:
    (old,) = one.keys()
    KeyFileSigner.open_or_create(tmp_path / "other" / "key.pem")
    shutil.copy(tmp_path / "other" / "key.pem", one.key_file)
    assert "is not published" in one.issuer.wait_for("keys_refused")["error"]
    assert kid_of(one.token()) == old


def test_a_next_key_that_others_put_into_the_folder_is_published(one: Rotating, tmp_path: Path) -> None:
    """As issuers that share a folder see it, and those whose folders are kept alike by other means."""
    (old,) = one.keys()
    other = KeyFileSigner.open_or_create(tmp_path / "other" / "key.pem")
    shutil.copy(tmp_path / "other" / "key.pem", one.key_file.with_name("signing-key.next.pem"))
    eventually(lambda: one.published() == [old, other.key_id])
    assert one.in_state(NEXT) == [other.key_id]
    one.key_file.with_name("signing-key.next.pem").rename(one.key_file)
    eventually(lambda: one.in_state(ACTIVE) == [other.key_id])
    assert one.in_state(RETIRED) == [old]
    assert [each for each in events(tmp_path) if each[1] == "files"] == [
        ("key_prepared", "files", ""),
        ("key_activated", "files", ""),
    ]


def test_a_compromised_key_is_replaced_revoked_and_published_no_more(one: Rotating) -> None:
    (old,) = one.keys()
    stolen = one.token()
    new = one.prepare()
    assert one.activate(new, force=True) == "OK"
    assert one.is_active(stolen), "a new key alone kills nothing"
    one.revoke(key_id=old)
    assert not one.is_active(stolen)
    assert one.outcome() == "OK", "the new key goes on"
    eventually(lambda: one.published() == [new])
    assert one.in_state(GONE) == [old]
    assert one.is_active(one.token())
    with one.verifier(one.key_source()) as verifier, pytest.raises(TokenRejected, match="names no key of the issuer"):
        verifier.verify(stolen)


def test_a_revoked_key_never_signs(one: Rotating) -> None:
    new = one.prepare()
    one.revoke(key_id=new)
    assert one.activate(new, force=True) == "KEY_CHANGE_REFUSED"
    assert one.remove(new) == "OK"
    assert one.activate(one.prepare(), force=True) == "OK"
    assert one.outcome() == "OK"


def test_issuance_that_a_revoked_key_stopped_goes_on_with_the_next_key(one: Rotating) -> None:
    (old,) = one.keys()
    one.revoke(key_id=old)
    assert one.outcome() == "REVOKED"
    assert one.activate(one.prepare(), force=True) == "OK"
    assert one.outcome() == "OK"


def test_only_keys_that_nobody_needs_are_removed(one: Rotating) -> None:
    (old,) = one.keys()
    token = one.token()
    assert one.remove(old, force=True) == "KEY_CHANGE_REFUSED", "it signs"
    new = one.prepare()
    assert one.remove(new) == "OK"
    assert one.published() == [old]
    assert one.remove(new) == "KEY_UNKNOWN"
    assert one.activate(new, force=True) == "KEY_UNKNOWN"
    assert one.remove("x") == "REQUEST_INVALID"
    newer = one.prepare()
    assert newer != new
    one.activate(newer, force=True)
    assert one.remove(old) == "KEY_CHANGE_REFUSED", "its tokens are alive"
    assert one.is_active(token)
    assert one.remove(old, force=True) == "OK"
    assert one.remove(old) == "OK", "it is gone already"
    assert one.published() == [newer]
    assert not one.is_active(token), "what it signed is not ours any more"


def test_no_call_fails_and_the_ledger_holds_while_keys_change_under_load(two: Rotating, tmp_path: Path) -> None:
    with Load(two, callers=8) as load:
        for _ in range(5):
            load.wait_for_more()
            assert two.activate(two.prepare(), force=True) == "OK"
        load.wait_for_more()
    assert load.failures == []
    assert len(two.in_state(RETIRED)) == 5
    file = tmp_path / "issuer" / "ledger" / "ledger.sqlite3"
    assert set(load.received) <= {each for (each,) in rows(file, "SELECT token_id FROM decision")}
    assert verify_ledger(LedgerReader.sqlite(file)).faults == ()


def test_all_workers_sign_by_the_new_key_when_it_is_activated_and_take_tokens_of_both(two: Rotating) -> None:
    with ExitStack() as stack:
        channels = channel_to_each(two, stack)
        old = {kid_of(token_at(each)) for each in channels.values()}
        new = two.prepare()
        assert {each for channel in channels.values() for each in kids_at(channel)} == {*old, new}
        assert two.activate(new, force=True) == "OK"
        assert {kid_of(token_at(each)) for each in channels.values()} == {new}
        assert {each for channel in channels.values() for each in kids_at(channel)} == {*old, new}


def test_a_worker_that_begins_between_the_steps_has_the_keys_of_the_others(two: Rotating) -> None:
    (old,) = two.keys()
    new = two.prepare()
    kill_and_await_the_next(two.issuer, place=1)
    assert two.activate(new, force=True) == "OK"
    kill_and_await_the_next(two.issuer, place=2)
    with ExitStack() as stack:
        channels = channel_to_each(two, stack)
        assert {kid_of(token_at(each)) for each in channels.values()} == {new}
        assert {each for channel in channels.values() for each in kids_at(channel)} == {old, new}


def test_a_worker_that_does_not_follow_is_ended(two: Rotating) -> None:
    """A token by the key of before must not leave once its activation was answered."""
    new, stopped = two.prepare(), workers_of(two.issuer)[2]
    with ExitStack() as stack:
        operator = channel_to_each(two, stack, OPERATOR)[1]
        os.kill(stopped, signal.SIGSTOP)
        request = admin.ActivateKeyRequest(key_id=new, force=True)
        admin_grpc.AdminServiceStub(operator).ActivateKey(request, timeout=DEADLINE)
        assert not is_alive(stopped)
    assert two.in_state(ACTIVE) == [new]


def test_checkpoints_that_a_key_signed_are_good_after_it_is_gone(tmp_path: Path) -> None:
    with Rotating(tmp_path, ledger={"checkpoints": "checkpoints.jws"}) as one:
        (old,) = one.keys()
        one.issuer.wait_for("serving")
        one.activate(one.prepare(), force=True)
        one.remove(old, force=True)
        one.issuer.signal(signal.SIGKILL)
        one.issuer.wait()
        signed_last = (one.settings.folder / "checkpoints.jws").read_text().splitlines()[-1]
        assert kid_of(signed_last) == old
        one.issuer.start()
        assert one.in_state(GONE) == [old], "and it knew the ledger by what that key signed"
        verified = command(one, "ledger", "verify", "--config", str(one.settings.folder / "issuer.toml"))
        assert verified.returncode == 0, verified.stderr
        assert "signed checkpoints vouch for" in verified.stdout


def test_issuers_that_share_the_folder_of_keys_follow_each_other(one: Rotating, tmp_path: Path) -> None:
    (old,) = one.keys()
    shared: dict[str, dict[str, object]] = {"keys": {"file": str(one.key_file)}}
    settings = replace(one.settings, folder=tmp_path / "other", options=shared)
    with IssuerProcess(settings) as other:
        assert one.published(other.url) == [old]
        new = one.prepare()
        eventually(lambda: one.published(other.url) == [old, new])
        assert one.activate(new, force=True) == "OK"
        eventually(lambda: one.published(other.url) == [new, old])
        one.remove(old, force=True)
        eventually(lambda: one.published(other.url) == [new])
        assert one.published() == [new]


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Rotating]:
    """One whose key set is kept for longer than any test takes."""
    with Rotating(tmp_path, max_age="1h") as deployment:
        yield deployment


def test_an_operator_rotates_at_a_terminal(slow: Rotating) -> None:
    one, (old,) = slow, slow.keys()

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return command(one, "keys", *arguments)

    assert "`issuer keys prepare` makes one" in run("activate").stderr
    prepared = json.loads(run("prepare", "--output", "json").stdout)
    new = prepared["kid"]
    assert (prepared["state"], prepared["ready_time"][-1]) == ("next", "Z")
    early = run("activate")
    assert (early.returncode, "reason: KEY_CHANGE_REFUSED" in early.stderr) == (1, True)
    forced = run("activate", "--force")
    assert forced.returncode == 0
    assert "may refuse new tokens" in forced.stderr
    assert f"kid        {new}\nstate      active\n" in forced.stdout
    listed = json.loads(run("list", "--output", "json").stdout)
    assert [(each["kid"], each["state"]) for each in listed] == [(new, "active"), (old, "retired")]
    shown = json.loads(run("show", "--key", str(one.key_file), "--output", "json").stdout)
    assert [each["kid"] for each in shown["jwks"]["keys"]] == [new, old]
    assert run("remove", old).returncode == 1
    assert json.loads(run("remove", old, "--force", "--output", "json").stdout)["state"] == "gone"
    shown = json.loads(run("show", "--key", str(one.key_file), "--known", "--output", "json").stdout)
    assert [each["kid"] for each in shown["jwks"]["keys"]] == [new, old]


def token_at(channel: grpc.Channel) -> str:
    request = pb.IssueTokenRequest(audience="https://ledger.dev.test", scopes=["ledger.read"])
    return str(pb_grpc.IssuerServiceStub(channel).IssueToken(request, timeout=DEADLINE).token)


def kids_at(channel: grpc.Channel) -> list[str]:
    answer = pb_grpc.IssuerServiceStub(channel).GetKeySet(pb.GetKeySetRequest(), timeout=DEADLINE)
    return [each["kid"] for each in json.loads(answer.jwks)["keys"]]


def command(deployment: Rotating, *arguments: str) -> subprocess.CompletedProcess[str]:
    return issuer_command(deployment, *arguments, identity=OPERATOR)
