"""The files of the keys: that of the active one, that of the next one beside it, and which keys there were.

``[keys] file`` is always the active key. The next one is in ``<name>.next.pem``; it becomes active by being renamed, so
that the private half of the one before is gone, and no step of a rotation writes a private key twice. Public halves of
keys that signed before are in ``<name>.keys.json``, which names the active key as well, before it signs anything: at
whatever moment the process ends, what is in the files tells every key that signed. Where that file is missing there was
one key all along.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from issuer.core.key_ring import KeyRing, KeyRingError, ring_found
from issuer.core.key_ring_text import ring_from_text, ring_text
from issuer.signing.es256 import signing_by_cryptography
from issuer.signing.key_file import KeyFileError, KeyFileSigner, check_folder, replace_whole, sync_folder

if TYPE_CHECKING:
    from pathlib import Path

    from issuer.signing.es256 import Library

MAX_RING_BYTES: Final = 1024 * 1024
"""A thousand keys take a third of it."""


class HeldKeys(NamedTuple):
    """The keys of an issuer, and the private halves of those that sign now or next. Signers print as their ``kid``."""

    ring: KeyRing
    active: KeyFileSigner
    next: KeyFileSigner | None


class KeyFolder:
    """Where the keys are kept.

    Args:
        file: That of the active key.
        library: What signs.
    """

    def __init__(self, file: Path, library: Library = signing_by_cryptography) -> None:
        self.file = file
        self._library = library
        self.next_file = file.with_name(f"{file.stem}.next{file.suffix}")
        self.ring_file = file.with_name(f"{file.stem}.keys.json")

    def open(self, now: int, remembered: KeyRing | None = None) -> HeldKeys:
        """Return the keys of the files. Writes nothing.

        Args:
            now: Unix seconds.
            remembered: What counts as kept where nothing is, since this folder cannot be written.

        Raises:
            KeyFileError: One of the files cannot be used, or they do not fit together.
        """
        active, coming = self._signers()
        jwk, coming_jwk = active.public_key, coming.public_key if coming else None
        try:
            ring = ring_found(jwk, coming_jwk, self.kept() or remembered, now)
        except KeyRingError as error:
            remedy = "put the key there that was active, or one that is new"
            raise KeyFileError(self.file, str(error), remedy) from None
        return HeldKeys(ring, active, coming if ring.next else None)

    def open_or_create(self, now: int) -> HeldKeys:
        """Return the keys of the files, after making the first one where there is none.

        Raises:
            KeyFileError: As for :meth:`open`.
        """
        KeyFileSigner.open_or_create(self.file)
        return self.open(now)

    def hold(self, ring: KeyRing) -> HeldKeys:
        """Return the keys of a ring that was told; the files are looked at for private halves alone.

        Raises:
            KeyFileError: That of the active key is not there.
        """
        active, coming = self._signers()
        found = {each.key_id: each for each in (coming, active) if each is not None}
        if (signer := found.get(ring.active.key_id)) is None:
            raise KeyFileError(self.file, f"does not hold the active key {ring.active.key_id}", "restore it")
        return HeldKeys(ring, signer, found.get(ring.next.jwk.key_id) if ring.next else None)

    def kept(self) -> KeyRing | None:
        """Return the ring as it was kept last; ``None`` where none was.

        Raises:
            KeyFileError: The file cannot be used.
        """
        try:
            descriptor = os.open(self.ring_file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._fault(f"cannot be read: {error.strerror}") from error
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise self._fault("is not a file that its owner alone can write")
            content = file.read(MAX_RING_BYTES + 1)
        if len(content) > MAX_RING_BYTES:
            raise self._fault(f"is larger than {MAX_RING_BYTES} bytes")
        try:
            return ring_from_text(content.decode("utf-8", "replace"))
        except KeyRingError as error:
            raise self._fault(str(error)) from None

    def keep(self, ring: KeyRing) -> None:
        """Keep the ring; it is durable when this returns.

        Raises:
            KeyFileError: It cannot be written.
        """
        check_folder(self.ring_file)
        try:
            replace_whole(self.ring_file, ring_text(ring).encode())
        except OSError as error:
            raise self._unwritable(error) from error

    def make_next(self) -> None:
        """Make the file of the next key, unless it is there.

        Raises:
            KeyFileError: It cannot be made.
        """
        KeyFileSigner.open_or_create(self.next_file)

    def drop_next(self) -> None:
        """Remove the file of the next key; without effect when it is gone.

        Raises:
            KeyFileError: It cannot be removed.
        """
        try:
            with suppress(FileNotFoundError):
                self.next_file.unlink()
            sync_folder(self.file.parent)
        except OSError as error:
            raise self._unwritable(error) from error

    def activate(self, key_id: str) -> None:
        """Let the next key be the active one: from the rename on, and for good when this returns.

        Without effect where it is that already: another issuer that shares the folder was quicker.

        Args:
            key_id: Its ``kid``.

        Raises:
            KeyFileError: It cannot be done, or the next key is another one.
        """
        active, coming = self._signers()
        if active.key_id != key_id and (coming is None or coming.key_id != key_id):
            raise KeyFileError(
                self.next_file, f"does not hold the key {key_id}", "ask again for the keys that there are"
            )
        try:
            if active.key_id != key_id:
                self.next_file.rename(self.file)
            sync_folder(self.file.parent)
        except OSError as error:
            raise self._unwritable(error) from error

    def _signers(self) -> tuple[KeyFileSigner, KeyFileSigner | None]:
        # The next one first: should it become active in between, it is found at both places and not at none.
        coming = self._coming()
        return KeyFileSigner.open(self.file, self._library), coming

    def _coming(self) -> KeyFileSigner | None:
        try:
            return KeyFileSigner.open(self.next_file, self._library)
        except KeyFileError:
            if os.path.lexists(self.next_file):
                raise
            return None  # there is none, or another issuer has let it be the active one in this moment

    def _fault(self, fault: str) -> KeyFileError:
        remedy = "restore it; without it, tokens of keys before the one in use are not verified any more"
        return KeyFileError(self.ring_file, fault, remedy)

    def _unwritable(self, error: OSError) -> KeyFileError:
        return KeyFileError(self.file, f"its folder: {error.strerror}", "give this user write access there")
