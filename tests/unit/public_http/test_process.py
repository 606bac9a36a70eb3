import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import httpx
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from structlog.testing import CapturingLogger
from support.eventually import eventually
from support.https import trusting, write_certificate

from issuer.core.jwk import PublicKeySet, public_jwk
from issuer.core.metadata import ServerMetadata
from issuer.public_http import process as process_module
from issuer.public_http.process import PublicHttpProcess
from issuer.public_http.settings import PublicHttpError, PublicHttpSettings

METADATA = ServerMetadata("http://127.0.0.1")


def key_set() -> PublicKeySet:
    return PublicKeySet((public_jwk(generate_private_key(SECP256R1()).public_key()),))


KEYS = key_set()


class Running(PublicHttpProcess):
    """The process, with its log kept and short words for asking it."""

    def __init__(self, settings: PublicHttpSettings | None = None, jwks: PublicKeySet = KEYS) -> None:
        self.logged = CapturingLogger()
        super().__init__(
            settings or PublicHttpSettings(listen="127.0.0.1:0"),
            metadata=METADATA,
            jwks=jwks,
            log=structlog.wrap_logger(
                self.logged, processors=[], wrapper_class=structlog.make_filtering_bound_logger(0)
            ),
        )

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=20)

    def events(self) -> list[str]:
        return [str(call.kwargs["event"]) for call in self.logged.calls]

    def serving_pid(self) -> int:
        return eventually(lambda: self.pid)


@pytest.fixture
def http() -> Iterator[Running]:
    http = Running()
    http.start()
    yield http
    http.stop()


def test_serves_key_set_and_metadata_from_another_process(http: Running) -> None:
    assert http.pid != os.getpid()
    assert http.get("/.well-known/jwks.json").content == KEYS.jwks
    assert http.get("/.well-known/openid-configuration").content == METADATA.document
    assert http.url == f"http://127.0.0.1:{http.port}"


def test_is_not_ready_until_it_is_told_so_and_not_after_it_was_told_otherwise(http: Running) -> None:
    assert http.get("/readyz").json() == {"ready": False, "reason": "the issuer is starting"}
    http.set_ready(ready=True)
    assert eventually(lambda: http.get("/readyz").status_code == 200)
    http.set_ready(ready=False, reason="the issuer is stopping")
    assert eventually(lambda: http.get("/readyz").json() == {"ready": False, "reason": "the issuer is stopping"})


def test_another_key_set_can_be_published_without_a_restart(http: Running) -> None:
    pid, other = http.pid, key_set()
    http.publish(other)
    assert eventually(lambda: http.get("/.well-known/jwks.json").content == other.jwks)
    assert http.pid == pid


def test_a_child_that_dies_is_replaced_on_the_same_port_and_told_the_latest(http: Running) -> None:
    first, other = http.serving_pid(), key_set()
    http.set_ready(ready=True)
    http.publish(other)
    os.kill(first, signal.SIGKILL)
    assert eventually(lambda: http.pid not in (None, first))
    assert http.get("/readyz").json() == {"ready": True}
    assert http.get("/.well-known/jwks.json").content == other.jwks
    assert http.events() == ["public_http_listening", "public_http_ended", "public_http_listening"]


def test_what_changes_while_there_is_no_child_is_told_to_the_next(
    http: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "FIRST_PAUSE_SECONDS", 0.5)
    os.kill(http.serving_pid(), signal.SIGKILL)
    assert eventually(lambda: http.pid is None)
    http.set_ready(ready=True)
    assert http.get("/readyz").json() == {"ready": True}


def test_more_status_lists_than_a_pipe_holds_reach_a_child_and_the_next_one(http: Running) -> None:
    lists = {str(number): f"{number}." + 30_000 * "a" for number in range(40)}
    for name, text in lists.items():
        http.show_list(name, text, 30)
    assert eventually(lambda: len(http.get("/status-lists").json()["status_lists"]) == len(lists))
    http.show_list("3", "", 0)
    first = http.serving_pid()
    os.kill(first, signal.SIGKILL)
    assert eventually(lambda: http.pid not in (None, first))
    assert eventually(lambda: len(http.get("/status-lists").json()["status_lists"]) == len(lists) - 1)
    assert http.get("/status-lists/39").text == lists["39"]
    assert http.get("/status-lists/3").status_code == 404


def test_a_status_list_that_no_line_holds_is_refused(http: Running) -> None:
    with pytest.raises(ValueError, match="at most"):
        http.show_list("1", 49_152 * "a", 30)


def test_a_child_that_reads_no_status_lists_holds_up_nothing_else(http: Running) -> None:
    pid = http.serving_pid()
    os.kill(pid, signal.SIGSTOP)
    for number in range(20):
        http.show_list(str(number), 30_000 * "a", 30)
    http.set_ready(ready=True)
    os.kill(pid, signal.SIGCONT)
    assert eventually(lambda: http.get("/readyz").json() == {"ready": True})
    assert eventually(lambda: len(http.get("/status-lists").json()["status_lists"]) == 20)


def test_pauses_grow_while_the_child_keeps_dying(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(process_module, "LONGEST_PAUSE_SECONDS", 0.02)
    http = Running()
    http.start()
    for _ in range(3):
        dying = http.serving_pid()
        os.kill(dying, signal.SIGKILL)
        assert eventually(lambda dying=dying: http.pid not in (None, dying))  # type: ignore[misc]
    http.stop()
    pauses = [call.kwargs["next_start_in_seconds"] for call in http.logged.calls if call.method_name == "error"]
    assert pauses == [0.01, 0.02, 0.02]


def test_pauses_begin_again_after_a_steady_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(process_module, "STEADY_SECONDS", 0.0)
    http = Running()
    http.start()
    for _ in range(2):
        dying = http.serving_pid()
        os.kill(dying, signal.SIGKILL)
        assert eventually(lambda dying=dying: http.pid not in (None, dying))  # type: ignore[misc]
    http.stop()
    pauses = [call.kwargs["next_start_in_seconds"] for call in http.logged.calls if call.method_name == "error"]
    assert pauses == [0.01, 0.01]


def test_a_child_that_cannot_be_started_again_is_told_and_tried_again(
    http: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = process_module._COMMAND
    monkeypatch.setattr(process_module, "_COMMAND", ("/no/such/python",))
    os.kill(http.serving_pid(), signal.SIGKILL)
    assert eventually(lambda: http.events().count("public_http_ended") >= 2)
    assert "cannot be started" in str(http.logged.calls[-1].kwargs["fault"])
    monkeypatch.setattr(process_module, "_COMMAND", command)
    assert http.get("/livez").status_code == 200


def test_a_child_that_stopped_reading_is_replaced_and_nobody_waits_for_it(http: Running) -> None:
    hung = http.serving_pid()
    os.kill(hung, signal.SIGSTOP)
    for number in range(2000):  # until the pipe is full
        http.set_ready(ready=True, reason=str(number))
    assert eventually(lambda: http.pid not in (None, hung))
    assert http.get("/readyz").json() == {"ready": True}


def test_stop_ends_the_process_and_frees_the_port(http: Running) -> None:
    pid = http.serving_pid()
    http.stop()
    assert not Path(f"/proc/{pid}").exists()
    socket.create_server(("127.0.0.1", http.port)).close()
    http.stop()  # again is harmless
    http.set_ready(ready=False)  # and late news are too


def test_stop_ends_a_child_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "STOP_SECONDS", 0.5)
    http = Running()
    http.start()
    pid = http.serving_pid()
    os.kill(pid, signal.SIGSTOP)
    http.stop()
    assert not Path(f"/proc/{pid}").exists()


def test_stop_between_two_children_starts_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "FIRST_PAUSE_SECONDS", 60.0)
    http = Running()
    http.start()
    os.kill(http.serving_pid(), signal.SIGKILL)
    assert eventually(lambda: http.pid is None and "public_http_ended" in http.events())
    http.stop()
    assert http.events().count("public_http_listening") == 1


def test_serves_https(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    http = Running(PublicHttpSettings(listen="127.0.0.1:0", tls_certificate=certificate, tls_key=key))
    http.start()
    with httpx.Client(verify=trusting(certificate)) as client:
        assert client.get(f"{http.url}/.well-known/jwks.json").content == KEYS.jwks
    assert http.url.startswith("https://")
    http.stop()


def test_a_certificate_that_cannot_be_used_is_told_at_start(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    key.write_text("noise")
    http = Running(PublicHttpSettings(listen="127.0.0.1:0", tls_certificate=certificate, tls_key=key))
    with pytest.raises(PublicHttpError, match=re.escape(f"tls_key {key} cannot be used: not PEM")):
        http.start()
    assert http.pid is None


def test_a_taken_port_is_told_at_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        http = Running(PublicHttpSettings(listen=f"127.0.0.1:{taken.getsockname()[1]}"))
        with pytest.raises(PublicHttpError, match="another program listens there"):
            http.start()


@pytest.mark.parametrize(
    ("command", "fault"),
    [(("/no/such/python",), "cannot be started"), (("/bin/false",), "ended with exit code 1")],
)
def test_a_process_that_cannot_run_is_told_at_start(
    command: tuple[str], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "_COMMAND", command)
    with pytest.raises(PublicHttpError, match=fault):
        Running().start()


def test_a_child_that_went_silent_but_lingers_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    lingering = "import os, time; os.close(1); time.sleep(1000)"
    monkeypatch.setattr(process_module, "_COMMAND", (sys.executable, "-c", lingering))
    monkeypatch.setattr(process_module, "STOP_SECONDS", 0.3)
    with pytest.raises(PublicHttpError, match="ended with exit code -9"):
        Running().start()


def test_a_process_that_never_serves_is_told_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "_COMMAND", ("/bin/sleep", "1000"))
    monkeypatch.setattr(process_module, "START_SECONDS", 0.3)
    monkeypatch.setattr(process_module, "STOP_SECONDS", 0.3)
    with pytest.raises(PublicHttpError, match="did not start within 0 s"):
        Running().start()


def test_the_childs_log_comes_out_in_ours(http: Running) -> None:
    http._post(jwks="\ud800")  # what no key set has, and no child can show
    assert eventually(lambda: "public_http" in http.events())
    http.publish(KEYS)
    assert http.get("/livez").status_code == 200


def test_many_threads_may_tell_it_things_at_once(http: Running) -> None:
    def tell() -> None:
        for number in range(50):
            http.set_ready(ready=True, reason=str(number))

    threads = [Thread(target=tell) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    http.set_ready(ready=False, reason="last")
    assert eventually(lambda: http.get("/readyz").json() == {"ready": False, "reason": "last"})


def test_the_private_key_is_not_in_the_childs_memory() -> None:
    key = generate_private_key(SECP256R1())
    jwk = public_jwk(key.public_key())
    http = Running(jwks=PublicKeySet((jwk,)))
    http.start()
    memory = private_memory(http.serving_pid())
    http.stop()
    scalar = key.private_numbers().private_value.to_bytes(32)
    assert jwk.key_id.encode() in memory  # the look finds what is there
    assert scalar not in memory
    assert scalar[::-1] not in memory


def private_memory(pid: int) -> bytes:
    """Return what the process holds in anonymous writable memory."""
    regions = []
    with Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, _, _, inode, *name = line.split()
            if rights.startswith("rw") and inode == "0" and name not in (["[vvar]"], ["[vsyscall]"]):
                start, end = (int(part, 16) for part in span.split("-"))
                memory.seek(start)
                regions.append(memory.read(end - start))
    return b"".join(regions)
