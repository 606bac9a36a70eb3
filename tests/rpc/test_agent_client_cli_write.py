"""``spiffe-token write`` as a user runs it, against a real issuer whose tokens live for ten seconds."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.deployment import SETTLER, Deployment
from support.spiffe_token import NOTHING, READ, SECONDS, SHORT_LIVED, SpiffeToken, line_of, text_when_there

from issuer_testing.deadline import wait_until
from issuer_testing.free_port import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

WRITE = ("write", *READ)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("issuer"), policy=SHORT_LIVED) as running:
        yield running


@pytest.fixture
def spiffe_token(deployment: Deployment) -> SpiffeToken:
    return SpiffeToken(deployment, deployment.authority.workload(SETTLER))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "token"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB. Only root may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as out:
        try:
            while True:
                out.write(b"x" * 4096)
        except OSError:
            return ballast


def test_one_token_is_written_for_this_user_alone(spiffe_token: SpiffeToken, file: Path) -> None:
    ended = spiffe_token.run(*WRITE, "--to", str(file), "--once")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert file.read_text().count(".") == 2
    assert file.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in file.parent.iterdir()] == ["token"]


def test_the_mode_is_the_one_asked_for_whatever_the_umask(spiffe_token: SpiffeToken, file: Path) -> None:
    for umask in (0o077, 0):
        with spiffe_token.start(*WRITE, "--to", str(file), "--once", "--mode", "0640", umask=umask) as process:
            process.communicate(timeout=SECONDS)
        assert (process.returncode, file.stat().st_mode & 0o777) == (0, 0o640)


@pytest.mark.parametrize("mode", ["0644", "0604", "0700", "0020", "rw", "08"])
def test_a_mode_that_lets_others_read_is_refused(spiffe_token: SpiffeToken, file: Path, mode: str) -> None:
    assert spiffe_token.run(*WRITE, "--to", str(file), "--once", "--mode", mode).returncode == 2
    assert not file.exists()


@pytest.mark.parametrize("form", ["json", "header"])
def test_other_forms(spiffe_token: SpiffeToken, file: Path, form: str) -> None:
    assert spiffe_token.run(*WRITE, "--to", str(file), "--once", "--format", form).returncode == 0
    text = file.read_text()
    assert json.loads(text)["token_type"] == "Bearer" if form == "json" else text.startswith("Authorization: Bearer ey")


def test_the_file_is_kept_fresh_and_never_missing(spiffe_token: SpiffeToken, file: Path) -> None:
    stop, seen = threading.Event(), set()

    def read_all_the_time() -> None:
        while not stop.is_set():
            seen.add(file.read_text())

    with spiffe_token.start(*WRITE, "--to", str(file)) as process:
        first = text_when_there(file)
        reader = threading.Thread(target=read_all_the_time)
        reader.start()
        second = text_when_there(file, other_than=first)
        stop.set()
        reader.join()
        process.terminate()
        process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert seen <= {first, second}
    assert file.read_text() == second  # it stays for those who read it while this is restarted


def test_many_writers_of_one_file_harm_nobody(spiffe_token: SpiffeToken, file: Path) -> None:
    writers = [spiffe_token.start(*WRITE, "--to", str(file), "--once") for _ in range(6)]
    for writer in writers:
        writer.communicate(timeout=SECONDS)
    assert [writer.returncode for writer in writers] == [0] * 6
    assert file.read_text().count(".") == 2
    assert len(list(file.parent.iterdir())) == 1


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (Path.mkdir, "it is a folder"),
        (lambda path: path.symlink_to("elsewhere"), "symbolic link"),
        (os.mkfifo, "it is no file"),
    ],
    ids=["folder", "link", "pipe"],
)
def test_what_is_no_file_is_left_alone(spiffe_token: SpiffeToken, file: Path, make: object, told: str) -> None:
    make(file)  # type: ignore[operator]
    before = file.lstat()
    ended = spiffe_token.run(*WRITE, "--to", str(file))
    assert ended.returncode == 6
    assert told in ended.stderr
    after = file.lstat()
    assert (after.st_ino, after.st_mode, after.st_mtime) == (before.st_ino, before.st_mode, before.st_mtime)
    assert not (file.parent / "elsewhere").exists()


def test_a_folder_that_is_not_there_is_told(spiffe_token: SpiffeToken, file: Path) -> None:
    ended = spiffe_token.run(*WRITE, "--to", str(file / "token"))
    assert ended.returncode == 6
    assert "its folder does not exist" in ended.stderr


def test_a_read_only_folder_is_told(spiffe_token: SpiffeToken, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    ended = spiffe_token.run(*WRITE, "--to", str(small_disk / "token"))
    assert ended.returncode == 6
    assert "read-only" in ended.stderr


def test_a_full_disk_is_told_and_leaves_the_old_file_whole(spiffe_token: SpiffeToken, small_disk: Path) -> None:
    file = small_disk / "token"
    file.write_text("old")
    fill(small_disk)
    ended = spiffe_token.run(*WRITE, "--to", str(file), "--once")
    assert ended.returncode == 6
    assert "the disk is full" in ended.stderr
    assert file.read_text() == "old"
    assert {entry.name for entry in small_disk.iterdir()} == {"token", "ballast"}


def test_a_disk_that_fills_up_is_told_and_written_to_when_it_is_emptied(
    spiffe_token: SpiffeToken, small_disk: Path
) -> None:
    file = small_disk / "token"
    with spiffe_token.start(*WRITE, "--to", str(file)) as process:
        first = text_when_there(file)
        assert "is good until" in line_of(process.stderr)
        ballast = fill(small_disk)
        assert "the disk is full; the token before it stays" in line_of(process.stderr)
        assert file.read_text() == first
        ballast.unlink()
        assert text_when_there(file, other_than=first)
        process.terminate()
        process.communicate(timeout=SECONDS)


def test_a_writer_that_is_killed_leaves_a_whole_file_or_none(spiffe_token: SpiffeToken, file: Path) -> None:
    for _ in range(3):
        with spiffe_token.start(*WRITE, "--to", str(file)) as process:
            text_when_there(file)
            process.kill()
        assert file.read_text().count(".") == 2
        file.unlink()


def test_what_a_killed_writer_left_behind_is_swept(spiffe_token: SpiffeToken, file: Path) -> None:
    old, young = (file.parent / f".token.{name}.spiffe-token" for name in ("old", "young"))
    others = file.parent / ".other.old.spiffe-token"
    for left in (old, young, others):
        left.write_text("ey")
    long_ago = young.stat().st_mtime - 3600
    for left in (old, others):
        os.utime(left, (long_ago, long_ago))
    assert spiffe_token.run(*WRITE, "--to", str(file), "--once").returncode == 0
    assert (old.exists(), young.exists(), others.exists()) == (False, True, True)


def test_an_expired_token_without_a_next_one_is_taken_away_unless_it_is_to_be_kept(tmp_path: Path, file: Path) -> None:
    kept, asked = file.with_name("kept"), (*WRITE, "--timeout", "1s", "--format", "json")
    with Deployment(tmp_path, policy=SHORT_LIVED) as deployment:
        spiffe_token = SpiffeToken(deployment, deployment.authority.workload(SETTLER))
        with (
            spiffe_token.start(*asked, "--to", str(file)) as taking,
            spiffe_token.start(*asked, "--to", str(kept), "--keep-expired") as keeping,
        ):
            ends = [datetime.fromisoformat(json.loads(text_when_there(one))["expires_at"]) for one in (file, kept)]
            deployment.issuer.stop()
            for process, lines in ((taking, 2), (keeping, 1)):
                others = (line for line in iter(partial(line_of, process.stderr), "") if "is good until" not in line)
                said = list(islice(others, lines))
                assert sum("there is no token: " in line for line in said) == 1
                assert sum("is taken away" in line for line in said) == lines - 1
                assert process.poll() is None
            assert time.time() >= max(ends).timestamp()
            assert (file.exists(), kept.exists()) == (False, True)
            for process in (taking, keeping):
                process.terminate()
                process.communicate(timeout=SECONDS)
    assert (taking.returncode, keeping.returncode) == (0, 0)


def test_a_denial_after_the_first_token_is_told_and_not_the_end(tmp_path: Path, file: Path) -> None:
    with Deployment(tmp_path, policy=SHORT_LIVED) as deployment:
        spiffe_token = SpiffeToken(deployment, deployment.authority.workload(SETTLER))
        with spiffe_token.start(*WRITE, "--to", str(file)) as process:
            text_when_there(file)
            line_of(process.stderr)
            deployment.policy_file.write_text(NOTHING, encoding="utf-8")
            deployment.issuer.signal(signal.SIGHUP)
            wait_until(lambda: not file.exists(), what="the file is taken away", seconds=SECONDS)
            deployment.policy_file.write_text(SHORT_LIVED, encoding="utf-8")
            deployment.issuer.signal(signal.SIGHUP)
            text_when_there(file)
            process.terminate()
            _, told = process.communicate(timeout=SECONDS)
    assert "is taken away" in told
    assert process.returncode == 0


def test_without_a_first_token_it_ends_and_takes_an_expired_file_of_an_earlier_run_away(
    spiffe_token: SpiffeToken, file: Path
) -> None:
    assert spiffe_token.run(*WRITE, "--to", str(file), "--once", "--format", "header").returncode == 0
    nobody = ("--issuer", f"127.0.0.1:{free_port()}", "--timeout", "1s")
    assert spiffe_token.run(*WRITE, "--to", str(file), *nobody).returncode == 5
    assert file.exists()  # its token is good still
    wait_until(
        lambda: spiffe_token.run(*WRITE, "--to", str(file), *nobody).returncode == 5 and not file.exists(),
        what="it is taken away",
        seconds=SECONDS,
    )


def test_a_renewal_with_an_intent_is_refused(spiffe_token: SpiffeToken, file: Path) -> None:
    assert spiffe_token.run(*WRITE, "--to", str(file), "--ticket", "CHG-1").returncode == 2
    assert spiffe_token.run(*WRITE, "--to", str(file), "--ticket", "CHG-1", "--once").returncode == 0


def test_ctrl_c_ends_it_by_that_signal(spiffe_token: SpiffeToken, file: Path) -> None:
    with spiffe_token.start(*WRITE, "--to", str(file)) as process:
        line_of(process.stderr)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=SECONDS) == ("", "")
    assert process.returncode == -signal.SIGINT


def test_what_happens_is_told_as_lines_of_json(spiffe_token: SpiffeToken, file: Path) -> None:
    with spiffe_token.start(*WRITE, "--to", str(file), "--output", "json") as process:
        told = json.loads(line_of(process.stderr))
        process.terminate()
        process.communicate(timeout=SECONDS)
    assert (told["level"], told["message"].split()[0]) == ("note", str(file))
    failed = spiffe_token.run(*WRITE, "--to", str(file), "--scope", "x", "--output", "json")
    assert json.loads(failed.stderr)["reason"] == "SCOPE_NOT_ALLOWED"


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_the_service_manager_is_told(spiffe_token: SpiffeToken, file: Path, *, abstract: bool) -> None:
    name = f"\0spiffe-token-test-{os.getpid()}" if abstract else str(file.parent / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        manager.settimeout(SECONDS)
        variables = {"NOTIFY_SOCKET": name.replace("\0", "@"), "WATCHDOG_USEC": "400000"}
        with spiffe_token.start(*WRITE, "--to", str(file), variables=variables) as process:
            heard = manager.recv(4096)
            while heard == b"WATCHDOG=1":  # it is alive from the start
                heard = manager.recv(4096)
            assert heard.startswith(b"READY=1\nSTATUS=" + bytes(file))
            assert file.exists()
            began = time.monotonic()
            assert [manager.recv(4096) for _ in range(4)] == [b"WATCHDOG=1"] * 4
            assert time.monotonic() - began < 4 * 0.4
            process.terminate()
            process.communicate(timeout=SECONDS)
            while (heard := manager.recv(4096)) != b"STOPPING=1":
                assert heard == b"WATCHDOG=1"


def test_a_manager_that_went_away_stops_nothing(spiffe_token: SpiffeToken, file: Path) -> None:
    ended = spiffe_token.run(*WRITE, "--to", str(file), "--once", NOTIFY_SOCKET="@nobody-there")
    assert ended.returncode == 0
