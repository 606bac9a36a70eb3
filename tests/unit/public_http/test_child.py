"""The child process by itself, with the test in its parent's place."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.eventually import eventually
from support.https import der, presented, write_certificate

from issuer.public_http.messages import ListShown, Report, Setup, State

COMMAND = (sys.executable, "-P", "-m", "issuer.public_http.child")


class Child:
    """A running child."""

    def __init__(self, files: tuple[Path, Path] | None = None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        certificate, key = map(str, files) if files else (None, None)
        self.port: int = self._listener.getsockname()[1]
        lists, self._lists = os.pipe()
        self.process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(self._listener.fileno(), lists),
        )
        os.close(lists)
        shown = (lists, "https://issuer.example/lists/", ["/lists"])
        self.send(Setup(self._listener.fileno(), '{"m":1}', ["/metadata"], ["/jwks"], *shown, 300, certificate, key))
        self.send(State("{}", ready=False, reason="starting"))

    def send(self, message: Setup | State) -> None:
        assert self.process.stdin
        self.process.stdin.write(message.to_line())
        self.process.stdin.flush()

    def show(self, name: str, text: str) -> None:
        os.write(self._lists, ListShown(name, text, 30).to_line())

    def report(self) -> Report:
        assert self.process.stdout
        return Report.from_line(self.process.stdout.readline())

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=10)

    def end(self) -> tuple[int, str]:
        """End its input; return its exit code and what it printed."""
        _, printed = self.process.communicate(timeout=20)
        self._listener.close()
        os.close(self._lists)
        return self.process.returncode, printed.decode()


@pytest.fixture
def child() -> Iterator[Child]:
    """A child that serves plain HTTP."""
    child = Child()
    assert child.report().kind == "listening"
    yield child
    assert child.end() == (0, "")


def test_serves_what_it_is_told(child: Child) -> None:
    assert child.get("/metadata").json() == {"m": 1}
    assert child.get("/readyz").json() == {"ready": False, "reason": "starting"}
    child.send(State('{"keys":[1]}', ready=True, reason=""))
    assert eventually(lambda: child.get("/readyz").status_code == 200)
    assert child.get("/jwks").json() == {"keys": [1]}


def test_shows_the_status_lists_that_it_is_told_and_no_more(child: Child) -> None:
    assert child.get("/lists/7").status_code == 404
    assert child.get("/lists").json() == {"status_lists": []}
    child.show("7", "a.b.c")
    assert eventually(lambda: child.get("/lists/7").text == "a.b.c")
    assert child.get("/lists").json() == {"status_lists": ["https://issuer.example/lists/7"]}
    child.show("7", "d.e.f")
    assert eventually(lambda: child.get("/lists/7").text == "d.e.f")
    child.show("7", "")
    assert eventually(lambda: child.get("/lists/7").status_code == 404)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serves_on_while_its_parent_lets_calls_end(child: Child, number: signal.Signals) -> None:
    """A terminal and a service manager signal the whole group; the parent alone decides when the child leaves."""
    child.process.send_signal(number)
    assert child.get("/livez").status_code == 200
    assert child.process.poll() is None


def test_leaves_when_its_input_ends(child: Child) -> None:
    assert child.process.stdin
    child.process.stdin.close()
    child.process.stdin = None
    assert child.process.wait(timeout=20) == 0


def test_leaves_without_a_word_when_its_parent_was_gone_before_it_began() -> None:
    done = subprocess.run(COMMAND, input=b"", capture_output=True, timeout=20, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """No orphan keeps the port, whatever happens to the issuer."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys, structlog\n"
        "from pathlib import Path\n"
        "from issuer.core.metadata import ServerMetadata\n"
        "from issuer.public_http.process import PublicHttpProcess\n"
        "from issuer.public_http.settings import PublicHttpSettings\n"
        "from issuer.signing.key_file import KeyFileSigner\n"
        "keys = KeyFileSigner.open_or_create(Path(sys.argv[1])).public_keys()\n"
        "http = PublicHttpProcess(PublicHttpSettings(listen='127.0.0.1:0'), metadata=ServerMetadata('http://a'),\n"
        "    jwks=keys, log=structlog.wrap_logger(structlog.WriteLogger(sys.stderr), processors=[]))\n"
        "http.start()\n"
        "print(http.pid, http.port, flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, str(script), str(tmp_path / "keys" / "signing.pem")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as parent:
        assert parent.stdout
        pid, port = map(int, parent.stdout.readline().split())
        assert httpx.get(f"http://127.0.0.1:{port}/livez").status_code == 200
        parent.kill()
    assert eventually(
        lambda: not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    socket.create_server(("127.0.0.1", port)).close()


def test_a_new_certificate_is_served_and_a_broken_one_is_told(tmp_path: Path) -> None:
    files = write_certificate(tmp_path)
    child = Child(files)
    assert child.report().kind == "listening"
    assert presented(child.port) == der(files[0])
    write_certificate(tmp_path)
    assert eventually(lambda: presented(child.port) == der(files[0]))
    good = der(files[0])
    files[0].write_bytes(b"broken")
    report = child.report()
    assert report.kind == "log"
    assert str(files[0]) in report.message
    assert "the certificate in use stays" in report.message
    assert presented(child.port) == good
    assert child.end() == (0, "")


def test_says_why_it_cannot_serve(tmp_path: Path) -> None:
    child = Child((tmp_path / "absent.crt", tmp_path / "absent.key"))
    report = child.report()
    assert report.kind == "failed"
    assert "No such file or directory" in report.message
    assert child.end() == (1, "")


def test_a_defect_is_reported_to_the_log_and_not_printed() -> None:
    child = Child()
    assert child.report().kind == "listening"
    child.send(State("\ud800", ready=True, reason=""))  # cannot be written as UTF-8
    report = child.report()
    assert report.kind == "log"
    assert "Traceback" in report.message
    assert len(report.message) <= 4000
    assert child.end() == (1, "")


def test_what_something_prints_does_not_disturb_the_reports() -> None:
    code = (
        "import issuer.public_http.child as child, os\n"
        "reports = child._take_over_stdout()\n"
        "print('stray', flush=True)\n"
        "os.write(reports, b'{}')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=20, check=True)
    assert (json.loads(done.stdout), done.stderr) == ({}, b"stray\n")


def test_its_arguments_tell_nothing(child: Child) -> None:
    arguments = Path(f"/proc/{child.process.pid}/cmdline").read_text().split("\0")
    assert arguments == [*COMMAND, ""]
