"""What an issuer begins with: a part that is not installed is named, with the remedy."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from issuer.config_sections import Config
from issuer.signing.key_file import KeyFileSigner
from issuer.startup import StartupError, key_folder

if TYPE_CHECKING:
    from pathlib import Path


def config_of(folder: Path, transport: str) -> Config:
    sections = {
        "issuer": {"url": "https://issuer.dev.test"},
        "server": {"transport": transport},
        "policy": {"path": str(folder / "policy.yaml")},
        "keys": {"file": str(folder / "keys" / "key.pem")},
        "ledger": {"file": str(folder / "ledger.sqlite3")},
    }
    return Config.model_validate(sections, context=folder)


@pytest.fixture(autouse=True)
def _nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("issuer.native_wheel", "issuer.signing.native_signing"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_without_the_native_wheel_its_transport_is_refused_before_a_key_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "issuer_transport", None)
    with pytest.raises(
        StartupError, match=r"^\[server\] transport: the native one cannot be loaded: .*`make transport`"
    ):
        key_folder(config_of(tmp_path, "native"))
    assert not list(tmp_path.iterdir())


def test_a_native_wheel_of_another_release_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = ModuleType("issuer_transport")  # it may lack any of today's names
    old.INTERFACE = 1  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "issuer_transport", old)
    with pytest.raises(StartupError, match=r"it is of another release \(interface 1, not \d+\)"):
        key_folder(config_of(tmp_path, "native"))


@pytest.mark.parametrize("other", ["grpcio", "h2corn"])
def test_other_transports_sign_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    monkeypatch.setitem(sys.modules, "issuer_transport", None)
    held = key_folder(config_of(tmp_path, other)).open_or_create(0)
    assert isinstance(held.active, KeyFileSigner)
    assert len(held.active.sign(b"x")) == 64


@pytest.mark.native
def test_the_native_transport_signs_by_its_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import issuer_transport  # noqa: PLC0415 - in a wheel of its own

    made, native = [], issuer_transport.SigningKey

    def key(pkcs8: bytes) -> issuer_transport.SigningKey:
        made.append(native(pkcs8))
        return made[-1]

    monkeypatch.setattr(issuer_transport, "SigningKey", key)
    held = key_folder(config_of(tmp_path, "native")).open_or_create(0)
    assert len(held.active.sign(b"x")) == 64
    assert len(made) == 1
