"""HTTPS from a certificate file and its key, read again whenever one of them changes."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

POLL_SECONDS = 2.0
"""How soon a new certificate is seen. Two stat calls see renames and Kubernetes' link swaps alike."""


class TlsFilesError(Exception):
    """Certificate and key cannot be used. The message names both files and what is wrong, for a person."""


class TlsFiles:
    """A server context that follows its files.

    Raises:
        TlsFilesError: The files cannot be used at the start. Later faults keep the certificate that was good.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._seen = self._stamp()
        self._current = self._load()
        # Replacing the files of a context in use could leave it with half of each; so the outer one stays as it is, and
        # every handshake switches to the newest that was loaded whole.
        self.context = self._load()
        self.context.sni_callback = self._use_current

    def reload_if_changed(self) -> bool:
        """Load the files again if they changed since the last look; return whether new ones are in use.

        Raises:
            TlsFilesError: They changed and cannot be used; raised once for each change.
        """
        stamp = self._stamp()
        if stamp == self._seen:
            return False
        self._seen = stamp
        self._current = self._load()
        return True

    def _use_current(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self._certificate, self._key, password=_refuse_password)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise TlsFilesError(
                f"[http] tls_certificate {self._certificate} and tls_key {self._key} cannot be used: {_fault(error)}"
            ) from error
        return context

    def _stamp(self) -> tuple[object, ...]:
        return tuple(_file_stamp(path) for path in (self._certificate, self._key))


def _file_stamp(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _refuse_password() -> str:
    raise ValueError("the key is encrypted, and nobody is there to type its password")


def _fault(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return "the key does not belong to the certificate"
    if isinstance(error, ssl.SSLError):
        return f"not PEM as expected ({error.reason or 'no certificate or key found'})"
    return getattr(error, "strerror", None) or str(error)
