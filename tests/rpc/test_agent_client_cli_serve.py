"""``spiffe-token serve`` as a user runs it, and as an attacker meets it."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.deployment import LEDGER, SETTLER, Deployment
from support.passable import open_to_others
from support.spiffe_token import SECONDS, SHORT_LIVED, SpiffeToken, line_of

from issuer_testing.deadline import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = f"{LEDGER} ledger.read"
PATH = f"/token?audience={LEDGER}"


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("issuer"), policy=SHORT_LIVED) as running:
        yield running


@pytest.fixture(scope="module")
def spiffe_token(deployment: Deployment) -> SpiffeToken:
    return SpiffeToken(deployment, deployment.authority.workload(SETTLER))


@contextmanager
def serving(spiffe_token: SpiffeToken, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    with spiffe_token.start("serve", *arguments, "--output", "json", **options) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=SECONDS)


class Endpoint:
    """An endpoint that runs, and how to reach it."""

    def __init__(self, process: subprocess.Popen[str], path: Path | None, secret_file: Path | None) -> None:
        told = line_of(process.stderr)
        self.process = process
        self.path = path
        self.port = int(match[1]) if (match := re.search(r"127\.0\.0\.1:(\d+)", told)) else 0
        self.secret = secret_file.read_text().strip() if secret_file else ""

    def connect(self) -> socket.socket:
        if self.path is None:
            return socket.create_connection(("127.0.0.1", self.port), SECONDS)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(SECONDS)
        connection.connect(str(self.path))
        return connection

    def ask(self, sent: bytes) -> tuple[int, dict[str, str], dict[str, Any]]:
        with self.connect() as connection:
            connection.sendall(sent)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, headers, json.loads(answer.read())

    def get(self, path: str = PATH, **headers: str | None) -> tuple[int, dict[str, str], dict[str, Any]]:
        usual = {"Host": f"127.0.0.1:{self.port}", "Metadata": "true", "Authorization": f"Bearer {self.secret}"}
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{name}: {value}" for name, value in {**usual, **given}.items() if value is not None]
        return self.ask("\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode())


@pytest.fixture(scope="module")
def unix(spiffe_token: SpiffeToken, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    path = tmp_path_factory.mktemp("unix") / "tokens.sock"
    with serving(spiffe_token, "--listen", f"unix:{path}", "--token", TOKEN) as process:
        yield Endpoint(process, path, None)


@pytest.fixture(scope="module")
def loopback(spiffe_token: SpiffeToken, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    secret = tmp_path_factory.mktemp("loopback") / "secret"
    arguments = ("--listen", "127.0.0.1:0", "--token", TOKEN, "--secret-file", str(secret))
    with serving(spiffe_token, *arguments) as process:
        endpoint = Endpoint(process, None, secret)
        assert secret.stat().st_mode & 0o777 == 0o600
        yield endpoint


@pytest.fixture(params=["unix", "loopback"])
def endpoint(request: pytest.FixtureRequest) -> Endpoint:
    found: Endpoint = request.getfixturevalue(request.param)
    return found


def test_a_token_is_given_as_a_token_endpoint_does(endpoint: Endpoint) -> None:
    status, headers, body = endpoint.get()
    assert status == 200
    assert (body["token_type"], body["scope"], body["access_token"].count(".")) == ("Bearer", "ledger.read", 2)
    assert 0 < body["expires_in"] <= 10
    assert body.keys() == {"access_token", "token_type", "expires_in", "scope"}
    assert (headers["cache-control"], headers["content-type"]) == ("no-store", "application/json")


def test_the_token_is_kept_between_requests_and_renewed_before_it_ends(unix: Endpoint) -> None:
    tokens = {unix.get()[2]["access_token"] for _ in range(20)}
    assert len(tokens) <= 2  # two where a renewal fell in between
    seen: list[int] = []

    def another() -> bool:
        body = unix.get()[2]
        seen.append(body["expires_in"])
        return body["access_token"] not in tokens

    wait_until(another, what="the token is renewed", seconds=SECONDS)
    assert min(seen) >= 1


def test_the_socket_is_for_its_user(unix: Endpoint) -> None:
    assert unix.path is not None
    assert unix.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/token?audience=https://other.test", 404, "invalid_target"),
        (f"/token?audience={LEDGER}%20", 404, "invalid_target"),
        (f"/token?audience={LEDGER.upper()}", 404, "invalid_target"),
        ("/token", 400, "invalid_request"),
        ("/token?audience=", 404, "invalid_target"),
        (f"{PATH}&audience={LEDGER}", 400, "invalid_request"),
        (f"{PATH}&scope=ledger.write", 400, "invalid_request"),
        (f"{PATH}&a&b&c&d&e", 400, "invalid_request"),
        ("/token?audience=%ff", 400, "invalid_request"),
        (f"//token?audience={LEDGER}", 404, "invalid_request"),
        (f"/x/../token?audience={LEDGER}", 404, "invalid_request"),
        (f"/%74oken?audience={LEDGER}", 404, "invalid_request"),
        ("/", 404, "invalid_request"),
    ],
)
def test_what_is_not_given_out_is_refused(endpoint: Endpoint, path: str, status: int, error: str) -> None:
    answer = endpoint.get(path)
    assert (answer[0], answer[2]["error"]) == (status, error)
    assert "access_token" not in answer[2]


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "attacker.example"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1.attacker.example:{port}"},
        {"Metadata": None},
        {"Metadata": "false"},
        {"Metadata": ""},
        {"Origin": "http://127.0.0.1:{port}"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "none"},
        {"Referer": "http://attacker.example/"},
        {"X_Forwarded_For": "10.0.0.1"},
        {"Via": "1.1 proxy"},
        {"Forwarded": "for=10.0.0.1"},
    ],
    ids=lambda headers: "-".join(f"{name}={value}" for name, value in headers.items()),
)
def test_a_browser_or_a_server_that_was_talked_into_it_is_refused(
    loopback: Endpoint, headers: dict[str, str | None]
) -> None:
    told = {name: value and value.replace("{port}", str(loopback.port)) for name, value in headers.items()}
    status, _, body = loopback.get(PATH, **told)
    assert (status, body["error"]) == (403, "access_denied")


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Basic {secret}",
        "{secret}",
        "Bearer {secret}x",
        "Bearer  {secret}",
    ],
)
def test_without_the_secret_of_this_start_there_is_no_token(loopback: Endpoint, authorization: str | None) -> None:
    told = authorization and authorization.replace("{secret}", loopback.secret)
    status, headers, body = loopback.get(Authorization=told)
    assert (status, body["error"], headers["www-authenticate"]) == (401, "invalid_client", "Bearer")


def test_localhost_and_any_case_of_the_scheme_are_taken(loopback: Endpoint) -> None:
    assert loopback.get(Host=f"localhost:{loopback.port}", Authorization=f"bearer {loopback.secret}")[0] == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /token HTTP/1.0\r\nHost: a\r\n\r\n", 400),
        (b"GET /token HTTP/2.0\r\nHost: a\r\n\r\n", 400),
        (b"GET  /token HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET http://a/token HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"get /token HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /token HTTP/1.1\r\n\r\n", 400),
        (b"GET /token HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET /token HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET /token HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        (b"GET /token HTTP/1.1\nHost: a\r\n\r\n", 400),
        (b"GET /token HTTP/1.1\r\nHost: a\rb\r\n\r\n", 400),
        (b"GET /token HTTP/1.1\r\nHost: a\0b\r\n\r\n", 400),
        (b"GET /token HTTP/1.1\r\nHost: \xe9\r\n\r\n", 400),
        (b"GET /token HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody", 400),
        (b"GET /token HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET /token HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(64)) + b"\r\n", 400),
        (b"GET /token HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 9000, 431),
    ],
)
def test_a_request_that_is_doubtful_is_refused(endpoint: Endpoint, sent: bytes, status: int) -> None:
    answer = endpoint.ask(sent)
    assert (answer[0], answer[2]["error"]) == (status, "invalid_request")


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(unix: Endpoint, method: str) -> None:
    with unix.connect() as connection:
        connection.sendall(f"{method} {PATH} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert connection.recv(64).startswith(b"HTTP/1.1 405 ")


def test_what_comes_after_the_first_request_is_not_a_second_one(unix: Endpoint) -> None:
    request = f"GET {PATH} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    with unix.connect() as connection:
        connection.sendall(request * 2)
        said = b""
        try:
            while received := connection.recv(65536):
                said += received
        except ConnectionResetError:
            pass  # the second was never read
    assert said.count(b"HTTP/1.1 ") == 1


def test_who_says_nothing_is_given_up_and_keeps_nobody_waiting(unix: Endpoint) -> None:
    silent = [unix.connect() for _ in range(100)]
    silent[0].sendall(b"GET /token")
    assert unix.get()[0] == 200
    began = time.monotonic()
    assert silent[0].recv(64).startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - began < 30
    for connection in silent:
        connection.close()


def test_there_are_no_more_connections_than_are_bounded(unix: Endpoint) -> None:
    held = [unix.connect() for _ in range(128)]
    try:
        status, headers, _ = unix.get()
        assert (status, headers["retry-after"]) == (503, "1")
    finally:
        for connection in held:
            connection.close()
    wait_until(lambda: unix.get()[0] == 200, what="there is room again", seconds=SECONDS)


def test_many_who_ask_at_once_are_answered(unix: Endpoint) -> None:
    with ThreadPoolExecutor(32) as pool:
        statuses = list(pool.map(lambda _: unix.get()[0], range(400)))
    assert set(statuses) == {200}


def test_another_user_is_refused_by_the_kernels_word(spiffe_token: SpiffeToken, tmp_path: Path) -> None:
    open_to_others(tmp_path, 0o011)  # who may pass, and not look
    path = tmp_path / "s"
    arguments = ("--listen", f"unix:{path}", "--token", TOKEN, "--allow-uid", "12345", "--allow-uid", "0")
    ask = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        f"s.sendall(b'GET {PATH} HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n'); print(s.recv(64)[9:12].decode())"
    )
    with serving(spiffe_token, *arguments) as process:
        endpoint = Endpoint(process, path, None)
        assert path.stat().st_mode & 0o777 == 0o666
        assert endpoint.get()[0] == 200
        for uid, status in ((12345, "200"), (12346, "403")):
            ended = subprocess.run(
                ["setpriv", f"--reuid={uid}", "--clear-groups", sys.executable, "-I", "-c", ask, str(path)],
                check=True,
                capture_output=True,
                text=True,
            )
            assert ended.stdout.strip() == status


def test_a_socket_that_was_left_behind_is_replaced_and_one_in_use_is_not(
    spiffe_token: SpiffeToken, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    listen = ("--listen", f"unix:{path}", "--token", TOKEN)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with serving(spiffe_token, *listen) as process:
        assert Endpoint(process, path, None).get()[0] == 200
        second = spiffe_token.run("serve", *listen)
        assert second.returncode == 6
        assert "another process answers there" in second.stderr
        assert Endpoint.get(_at(process, path))[0] == 200
    assert not path.exists()
    path.write_text("mine")
    assert spiffe_token.run("serve", *listen).returncode == 6
    assert path.read_text() == "mine"


def _at(process: subprocess.Popen[str], path: Path) -> Endpoint:
    found = Endpoint.__new__(Endpoint)
    found.process, found.path, found.port, found.secret = process, path, 0, ""
    return found


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--listen", "0.0.0.0:0", "--token", TOKEN, "--secret-file", "s"), "on this host alone"),
        (("--listen", "[::]:0", "--token", TOKEN, "--secret-file", "s"), "on this host alone"),
        (("--listen", "192.0.2.1:80", "--token", TOKEN, "--secret-file", "s"), "on this host alone"),
        (("--listen", "issuer:80", "--token", TOKEN), "unix:/PATH or 127.0.0.1:PORT"),
        (("--listen", "unix:s", "--token", TOKEN), "absolute"),
        (("--listen", "unix:/" + "s" * 107, "--token", TOKEN), "too long"),
        (("--listen", "127.0.0.1:0", "--token", TOKEN), "needed with a port"),
        (("--listen", "unix:/tmp/s", "--token", TOKEN, "--secret-file", "s"), "for a port"),
        (("--listen", "127.0.0.1:0", "--token", TOKEN, "--secret-file", "s", "--allow-uid", "1"), "UNIX socket"),
        (("--listen", "unix:/tmp/s"), "there is no token to give out"),
        (("--listen", "unix:/tmp/s", "--token", LEDGER), "its scopes"),
        (("--listen", "unix:/tmp/s", "--token", TOKEN, "--token", TOKEN), "two tokens"),
        (("--listen", "unix:/tmp/s", "--token", TOKEN, "--socket-mode", "9"), "octal"),
    ],
)
def test_a_wrong_command_line_is_told(spiffe_token: SpiffeToken, arguments: tuple[str, ...], told: str) -> None:
    ended = spiffe_token.run("serve", *arguments, COLUMNS="200")
    assert ended.returncode == 2
    assert told in ended.stderr


def test_a_token_that_is_refused_ends_it_before_it_answers(spiffe_token: SpiffeToken, tmp_path: Path) -> None:
    path = tmp_path / "s"
    ended = spiffe_token.run("serve", "--listen", f"unix:{path}", "--token", TOKEN, "--token", "https://x.test read")
    assert ended.returncode == 3
    assert "https://x.test: " in ended.stderr
    assert not path.exists()


def test_tokens_come_from_a_file_too(spiffe_token: SpiffeToken, tmp_path: Path) -> None:
    config, path = tmp_path / "tokens.toml", tmp_path / "s"
    config.write_text(f'[[token]]\naudience = "{LEDGER}"\nscopes = ["ledger.read"]\nbind = true\nttl = "10s"\n')
    with serving(spiffe_token, "--listen", f"unix:{path}", "--config", str(config)) as process:
        assert Endpoint(process, path, None).get()[0] == 200


def test_the_secret_is_new_with_each_start_and_gone_at_the_end(spiffe_token: SpiffeToken, tmp_path: Path) -> None:
    file, secrets = tmp_path / "secret", set()
    for _ in range(2):
        arguments = ("--listen", "127.0.0.1:0", "--token", TOKEN, "--secret-file", str(file))
        with serving(spiffe_token, *arguments) as process:
            secrets.add(Endpoint(process, None, file).secret)
            arguments_seen = Path(f"/proc/{process.pid}/cmdline").read_text()
            assert not any(secret in arguments_seen for secret in secrets)
        assert process.returncode == 0
        assert not file.exists()
    assert len(secrets) == 2
    assert min(map(len, secrets)) >= 43


def test_while_the_issuer_is_away_the_token_is_given_until_it_ends(tmp_path: Path) -> None:
    with Deployment(tmp_path, policy=SHORT_LIVED) as deployment:
        spiffe_token = SpiffeToken(deployment, deployment.authority.workload(SETTLER))
        path = tmp_path / "s"
        arguments = ("--listen", f"unix:{path}", "--token", TOKEN, "--timeout", "1s")
        with serving(spiffe_token, *arguments) as process:
            endpoint = Endpoint(process, path, None)
            deployment.issuer.stop()
            assert endpoint.get()[0] == 200
            status, headers, body = wait_until(
                lambda: answer if (answer := endpoint.get())[0] != 200 else None, what="it ends", seconds=SECONDS
            )
    assert (status, body["error"]) == (503, "temporarily_unavailable")
    assert int(headers["retry-after"]) >= 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_answers_who_has_asked(
    spiffe_token: SpiffeToken, tmp_path: Path, number: signal.Signals
) -> None:
    path = tmp_path / "s"
    with spiffe_token.start("serve", "--listen", f"unix:{path}", "--token", TOKEN, "--output", "json") as process:
        endpoint = Endpoint(process, path, None)
        with endpoint.connect() as connection:
            connection.sendall(f"GET {PATH} HTTP/1.1\r\n".encode())
            wait_until(lambda: endpoint.get()[0] == 200, what="it serves", seconds=SECONDS)
            process.send_signal(number)
            wait_until(lambda: not _accepts(path), what="it takes no more", seconds=SECONDS)
            connection.sendall(b"Host: a\r\n\r\n")
            assert connection.recv(64).startswith(b"HTTP/1.1 200 ")
        _, told = process.communicate(timeout=SECONDS)
    assert process.returncode == (0 if number is signal.SIGTERM else -number)
    assert told == ""
    assert not path.exists()


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def test_the_service_manager_is_told_when_it_answers(spiffe_token: SpiffeToken, tmp_path: Path) -> None:
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(SECONDS)
        variables = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
        listening = threading.Thread(target=lambda: heard.extend(manager.recv(4096) for _ in range(4)))
        listening.start()
        arguments = ("--listen", f"unix:{tmp_path}/s", "--token", TOKEN)
        with serving(spiffe_token, *arguments, variables=variables):
            listening.join(SECONDS)
    assert heard[0].startswith(b"READY=1\nSTATUS=giving out 1 token on unix:")
    assert heard[1:] == [b"WATCHDOG=1"] * 3
