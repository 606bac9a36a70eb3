import shutil
import ssl
from pathlib import Path

import pytest
from support.https import der, trusting, write_certificate

from issuer.public_http.tls import TlsFiles, TlsFilesError


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return write_certificate(tmp_path)


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str | None = "127.0.0.1") -> ssl.SSLObject:
    """Shake hands in memory; return the client's side."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname=name)
    far = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (near, far):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return near


def anyone(**changes: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for name, value in changes.items():
        setattr(context, name, value)
    return context


def shown(tls: TlsFiles, name: str | None = "127.0.0.1") -> bytes | None:
    return handshake(tls.context, anyone(), name).getpeercert(binary_form=True)


def test_serves_the_certificate(files: tuple[Path, Path]) -> None:
    connection = handshake(TlsFiles(*files).context, trusting(files[0]))
    assert connection.getpeercert(binary_form=True) == der(files[0])


@pytest.mark.parametrize("name", ["127.0.0.1", "issuer.example", None], ids=["address", "dns", "none"])
def test_a_new_certificate_is_served_once_it_was_loaded(files: tuple[Path, Path], name: str | None) -> None:
    tls = TlsFiles(*files)
    before = shown(tls, name)
    write_certificate(files[0].parent)
    assert shown(tls, name) == before
    assert tls.reload_if_changed()
    assert shown(tls, name) == der(files[0]) != before


def test_files_that_did_not_change_are_not_loaded_again(files: tuple[Path, Path]) -> None:
    tls = TlsFiles(*files)
    assert not tls.reload_if_changed()
    write_certificate(files[0].parent)
    assert tls.reload_if_changed()
    assert not tls.reload_if_changed()


def test_a_swapped_link_is_a_change(tmp_path: Path) -> None:
    """Kubernetes swaps one symbolic link to put a whole new secret in place."""
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        write_certificate(tmp_path / version)
    (tmp_path / "data").symlink_to("1")
    tls = TlsFiles(tmp_path / "data" / "tls.crt", tmp_path / "data" / "tls.key")
    (tmp_path / "new").symlink_to("2")
    (tmp_path / "new").rename(tmp_path / "data")
    assert tls.reload_if_changed()
    assert shown(tls) == der(tmp_path / "2" / "tls.crt")


def test_a_half_written_pair_keeps_the_one_in_use_until_it_is_whole(files: tuple[Path, Path], tmp_path: Path) -> None:
    tls = TlsFiles(*files)
    before = shown(tls)
    (tmp_path / "new").mkdir()
    certificate, key = write_certificate(tmp_path / "new")
    shutil.copy(certificate, files[0])
    with pytest.raises(TlsFilesError, match="the key does not belong to the certificate"):
        tls.reload_if_changed()
    assert shown(tls) == before
    assert not tls.reload_if_changed()  # told once for each change
    shutil.copy(key, files[1])
    assert tls.reload_if_changed()
    assert shown(tls) == der(certificate)


def test_files_that_disappear_keep_the_certificate_in_use(files: tuple[Path, Path]) -> None:
    tls = TlsFiles(*files)
    before = shown(tls)
    files[1].unlink()
    with pytest.raises(TlsFilesError, match="No such file or directory"):
        tls.reload_if_changed()
    assert shown(tls) == before


def test_tls_1_1_is_refused(files: tuple[Path, Path]) -> None:
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        old = anyone(minimum_version=ssl.TLSVersion.TLSv1_1, maximum_version=ssl.TLSVersion.TLSv1_1)
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        handshake(TlsFiles(*files).context, old)


@pytest.mark.parametrize("content", [b"", b"noise"], ids=["empty", "noise"])
@pytest.mark.parametrize("which", [0, 1], ids=["certificate", "key"])
def test_a_file_that_is_not_pem_is_told_with_both_names(files: tuple[Path, Path], which: int, content: bytes) -> None:
    files[which].write_bytes(content)
    with pytest.raises(TlsFilesError, match="not PEM as expected") as refusal:
        TlsFiles(*files)
    assert all(str(path) in str(refusal.value) for path in files)


def test_an_encrypted_key_is_told_and_nobody_is_asked_for_its_password(tmp_path: Path) -> None:
    with pytest.raises(TlsFilesError, match="the key is encrypted"):
        TlsFiles(*write_certificate(tmp_path, password=b"secret"))
