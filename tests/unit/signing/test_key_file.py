import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from issuer.signing.key_file import MAX_KEY_FILE_BYTES, KeyFileError, KeyFileSigner


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A key file as the issuer makes it."""
    path = tmp_path / "keys" / "signing.pem"
    KeyFileSigner.open_or_create(path)
    return path


def pem(key: PrivateKeyTypes, encryption: KeySerializationEncryption | None = None) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def refusal(path: Path) -> str:
    """Both ways of opening refuse alike; return what they say."""
    with pytest.raises(KeyFileError) as opened:
        KeyFileSigner.open(path)
    with pytest.raises(KeyFileError) as created:
        KeyFileSigner.open_or_create(path)
    assert str(opened.value) == str(created.value)
    assert str(path) in str(opened.value)
    return str(opened.value)


def test_makes_the_key_at_first_start_and_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "signing.pem"
    first = KeyFileSigner.open_or_create(path)
    assert KeyFileSigner.open_or_create(path).key_id == KeyFileSigner.open(path).key_id == first.key_id
    assert repr(first) == f"KeyFileSigner(kid={first.key_id!r})"


def test_file_and_folder_are_the_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = tmp_path / "keys" / "signing.pem"
        KeyFileSigner.open_or_create(path)
    finally:
        os.umask(before)
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)


def test_leaves_nothing_but_the_key(key_file: Path) -> None:
    assert list(key_file.parent.iterdir()) == [key_file]
    assert key_file.stat().st_nlink == 1


def test_two_issuers_have_two_keys(tmp_path: Path) -> None:
    signers = [KeyFileSigner.open_or_create(tmp_path / name) for name in ("a.pem", "b.pem")]
    assert signers[0].key_id != signers[1].key_id


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o666, 0o644])
def test_refuses_a_file_that_others_can_use(key_file: Path, bits: int) -> None:
    key_file.chmod(bits)
    assert f"mode {bits:04o}" in refusal(key_file)
    assert f"chmod 0600 {key_file}" in refusal(key_file)


@pytest.mark.parametrize("bits", [0o600, 0o400, 0o700])
def test_accepts_a_file_that_only_its_owner_can_use(key_file: Path, bits: int) -> None:
    key_file.chmod(bits)
    KeyFileSigner.open(key_file)


@pytest.mark.parametrize("bits", [0o770, 0o707, 0o777, 0o1777, 0o720, 0o702])
def test_refuses_a_folder_that_others_can_write(key_file: Path, bits: int) -> None:
    key_file.parent.chmod(bits)
    assert f"mode {bits:04o}" in refusal(key_file)
    assert f"chmod go-w {key_file.parent}" in refusal(key_file)


def test_makes_no_key_in_a_folder_that_others_can_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(KeyFileError, match="can be written by others"):
        KeyFileSigner.open_or_create(tmp_path / "signing.pem")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bits", [0o755, 0o750, 0o500])
def test_accepts_a_folder_that_others_can_only_read(key_file: Path, bits: int) -> None:
    key_file.parent.chmod(bits)
    KeyFileSigner.open(key_file)


def test_refuses_a_file_of_another_user(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = key_file.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    os_stat = Path.stat

    def owned_by_us(path: Path, **how: bool) -> os.stat_result:
        status = list(os_stat(path, **how))
        status[stat.ST_UID] = owner + 1 if path == key_file.parent else status[stat.ST_UID]
        return os.stat_result(status)

    monkeypatch.setattr(Path, "stat", owned_by_us)
    assert f"belongs to user {owner}; chown {owner + 1} {key_file}" in refusal(key_file)


def test_refuses_a_folder_of_another_user(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = list(key_file.parent.stat())
    status[stat.ST_UID] = 4242
    monkeypatch.setattr(Path, "stat", lambda _: os.stat_result(status))
    assert f"its folder {key_file.parent} belongs to user 4242" in refusal(key_file)


def test_refuses_every_truncation(key_file: Path) -> None:
    whole = key_file.read_bytes().rstrip()
    for length in range(1, len(whole)):
        with pytest.raises(KeyFileError, match="truncated or not a PEM key"):
            KeyFileSigner.open(put(key_file, whole[:length]))


CONTENTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "noise": (bytes(range(256)), "truncated or not a PEM key"),
    "certificate": (b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", "not a PEM key"),
    "too-large": (b"#" * (MAX_KEY_FILE_BYTES + 1), "is larger than"),
    "encrypted": (pem(ec.generate_private_key(ec.SECP256R1()), BestAvailableEncryption(b"x")), "is encrypted"),
    "p384": (pem(ec.generate_private_key(ec.SECP384R1())), "is not a P-256 key"),
    "rsa": (pem(rsa.generate_private_key(65537, 2048)), "is not a P-256 key"),
    "ed25519": (pem(ed25519.Ed25519PrivateKey.generate()), "is not a P-256 key"),
    "two-keys": (pem(ec.generate_private_key(ec.SECP256R1())) * 2, "more than one PEM block"),
}


@pytest.mark.parametrize(("content", "fault"), CONTENTS.values(), ids=CONTENTS.keys())
def test_refuses_what_is_not_one_usable_key(key_file: Path, content: bytes, fault: str) -> None:
    message = refusal(put(key_file, content))
    assert fault in message
    assert "; " in message
    assert key_file.read_bytes() == content


def test_refusal_shows_nothing_of_the_file(key_file: Path) -> None:
    content = pem(ec.generate_private_key(ec.SECP384R1()))
    message = refusal(put(key_file, content))
    assert not any(line in message for line in content.decode().splitlines())


def test_refuses_a_symbolic_link(key_file: Path) -> None:
    link = key_file.with_name("link.pem")
    link.symlink_to(key_file)
    assert "is a symbolic link" in refusal(link)


def test_makes_no_key_at_the_end_of_a_dangling_link(tmp_path: Path) -> None:
    link = tmp_path / "link.pem"
    link.symlink_to(tmp_path / "elsewhere.pem")
    assert "is a symbolic link" in refusal(link)
    assert not (tmp_path / "elsewhere.pem").exists()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_refuses_what_is_not_a_file_without_waiting_for_it(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "signing.pem")
    assert "is not a regular file" in refusal(tmp_path / "signing.pem")


def test_open_makes_no_key(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="is not there; `issuer serve` makes one"):
        KeyFileSigner.open(tmp_path / "keys" / "signing.pem")
    assert not list(tmp_path.iterdir())


def test_says_why_the_key_cannot_be_made(tmp_path: Path) -> None:
    put(tmp_path / "file", b"")
    with pytest.raises(KeyFileError, match="cannot be made: "):
        KeyFileSigner.open_or_create(tmp_path / "file" / "signing.pem")


def test_says_why_the_file_cannot_be_read(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    assert "cannot be read: Permission denied" in refusal(key_file)


def test_says_why_the_folder_cannot_be_read(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", denied)
    assert "its folder cannot be read: Permission denied" in refusal(key_file)


def test_an_unfinished_write_leaves_no_key_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KeyFileError, match="cannot be made: No space left on device"):
        KeyFileSigner.open_or_create(tmp_path / "signing.pem")
    assert not list(tmp_path.iterdir())


RACER = """
import sys
from pathlib import Path
from issuer.signing.key_file import KeyFileSigner
print("loaded", flush=True)
sys.stdin.readline()
print(KeyFileSigner.open_or_create(Path(sys.argv[1])).key_id)
"""


def test_processes_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "signing.pem"
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdout
        assert racer.stdout.readline() == "loaded\n"
    for racer in racers:  # all of them wait: let them go together
        assert racer.stdin
        racer.stdin.write("go\n")
        racer.stdin.flush()
    key_ids = {racer.communicate()[0] for racer in racers}
    assert key_ids == {KeyFileSigner.open(path).key_id + "\n"}
    assert list(path.parent.iterdir()) == [path]


def test_a_key_that_another_process_made_meanwhile_is_the_key(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The race at its narrowest: the file appears between the look and the write."""
    theirs = KeyFileSigner.open(key_file).key_id
    looks = iter([False, True])
    monkeypatch.setattr(os.path, "lexists", lambda _: next(looks))
    assert KeyFileSigner.open_or_create(key_file).key_id == theirs
    assert list(key_file.parent.iterdir()) == [key_file]
