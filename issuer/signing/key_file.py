"""The signing key in a file: one P-256 private key, PKCS #8 in PEM, readable by its owner alone.

The file is made at first start. It appears under its name whole or not at all, with mode 0600 from its first byte, and
processes that start at the same moment end up with one key: the temporary file is *linked* to the name, which fails
where a rename would replace the key that another process has already begun to use.

A file holds one key. The key that will sign next has a file of its own in the same folder, made and read by the same
code (:mod:`issuer.signing.key_folder`). A second key in one file is refused, since whoever put it there expects
something of it.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress
from tempfile import mkstemp
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from issuer.signing.es256 import Es256Signer, signing_by_cryptography

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from issuer.signing.es256 import Library

MAX_KEY_FILE_BYTES = 16 * 1024
"""A P-256 key takes 241; the bound keeps a wrong path from being read into memory."""
_GROUP_OR_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_WRITABLE_BY_GROUP_OR_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_NEW_KEY = "or, if no token signed with it matters any more, remove it: a new key is made at the next start"


class KeyFileError(Exception):
    """The key file cannot be used. The message names the file, what is wrong with it and what to do."""

    def __init__(self, path: Path, fault: str, remedy: str) -> None:
        super().__init__(f"signing key {path}: {fault}; {remedy}")
        self.path = path


class KeyFileSigner(Es256Signer):
    """Signs with the key of a file.

    Attributes:
        written: When the file was written, Unix seconds.
    """

    written: float = 0.0

    @classmethod
    def open(cls, path: Path, library: Library = signing_by_cryptography) -> KeyFileSigner:
        """Read the key, which ``library`` will sign by.

        Raises:
            KeyFileError: The file is not there, not only its owner's, or not one whole P-256 key.
        """
        if not os.path.lexists(path):
            raise KeyFileError(path, "is not there", "`issuer serve` makes one at its first start")
        check_folder(path)
        content, written = _read(path)
        signer = cls(_parse(path, content), library)
        signer.written = written
        return signer

    @classmethod
    def open_or_create(cls, path: Path) -> KeyFileSigner:
        """Read the key, after making it (and its folder) if it is not there.

        Raises:
            KeyFileError: As for :meth:`open`, or the file cannot be made.
        """
        if not os.path.lexists(path):
            _create(path)
        return cls.open(path)


def _create(path: Path) -> None:
    """Make a key and its file; leave the file of another process that was quicker."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_folder(path)
        write_new(path, _new_key())
    except OSError as error:
        raise KeyFileError(path, f"cannot be made: {error.strerror}", "give this user write access there") from error


def _new_key() -> bytes:
    key = generate_private_key(SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def write_new(path: Path, content: bytes) -> None:
    """Write a file whole, for its owner alone; leave one that is there already."""
    with _written(path, content) as temporary, suppress(FileExistsError):  # another process was quicker: its key counts
        path.hardlink_to(temporary)


def replace_whole(path: Path, content: bytes) -> None:
    """Write a file whole, for its owner alone, in the place of the one that is there."""
    with _written(path, content) as temporary:
        temporary.rename(path)


@contextmanager
def _written(path: Path, content: bytes) -> Iterator[Path]:
    """Have a file in the same folder that is durable; what was done with it is so afterwards, and it is gone."""
    descriptor, name = mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600, O_EXCL
    temporary = path.parent / name
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make what was renamed or removed in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_folder(path: Path) -> None:
    """Refuse a file whose folder others could change.

    Raises:
        KeyFileError: They can.
    """
    folder = path.parent
    try:
        status = folder.stat()
    except OSError as error:
        raise KeyFileError(path, f"its folder cannot be read: {error.strerror}", f"check {folder}") from error
    if status.st_uid not in (os.geteuid(), 0):
        raise KeyFileError(path, f"its folder {folder} belongs to user {status.st_uid}", _owner_remedy(folder))
    if status.st_mode & _WRITABLE_BY_GROUP_OR_OTHERS:
        fault = f"its folder {folder} can be written by others (mode {stat.S_IMODE(status.st_mode):04o})"
        raise KeyFileError(path, fault, f"chmod go-w {folder}, or keep the key in a folder of its own")


def _read(path: Path) -> tuple[bytes, float]:
    """Return what is in the file, and when it was written."""
    try:
        # O_NOFOLLOW: the checks below are about the file with this name and no other. O_NONBLOCK: no pipe hangs us.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if path.is_symlink():
            raise KeyFileError(path, "is a symbolic link", "name the file itself") from error
        raise KeyFileError(path, f"cannot be read: {error.strerror}", "check the path and its owner") from error
    try:
        status = os.fstat(descriptor)
        _check_file(path, status)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_KEY_FILE_BYTES + 1), status.st_mtime
    finally:
        os.close(descriptor)


def _check_file(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise KeyFileError(path, "is not a regular file", "name the file of the key")
    if status.st_uid != os.geteuid():
        raise KeyFileError(path, f"belongs to user {status.st_uid}", _owner_remedy(path))
    if status.st_mode & _GROUP_OR_OTHERS:
        fault = f"can be used by others than its owner (mode {stat.S_IMODE(status.st_mode):04o})"
        raise KeyFileError(path, fault, f"chmod 0600 {path}, and think of the key as known to those who could read it")


def _owner_remedy(path: Path) -> str:
    return f"chown {os.geteuid()} {path}, or run as its owner"


def _parse(path: Path, pem: bytes) -> EllipticCurvePrivateKey:
    if not pem:
        raise KeyFileError(path, "is empty", f"restore it from a backup, {_NEW_KEY}")
    if len(pem) > MAX_KEY_FILE_BYTES:
        raise KeyFileError(path, f"is larger than {MAX_KEY_FILE_BYTES} bytes", "name the file of the key")
    if pem.count(b"-----BEGIN ") > 1:
        raise KeyFileError(path, "holds more than one PEM block", "leave the one private key in it")
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError as error:  # the library's way of asking for a password
        raise KeyFileError(path, "is encrypted", "decrypt it: the issuer starts without anyone to type") from error
    except ValueError as error:
        raise KeyFileError(path, "is truncated or not a PEM key", f"restore it from a backup, {_NEW_KEY}") from error
    if not (isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1)):
        raise KeyFileError(path, "is not a P-256 key", f"ES256 needs one: put such a key there, {_NEW_KEY}")
    return key
