"""Small pure parts of the commands."""

from __future__ import annotations

import base64
import json
import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent_client.cli.diagnosis.finding import Level
from agent_client.cli.diagnosis.naming import dns_name_finding
from agent_client.cli.diagnosis.publishing import clock_finding
from agent_client.cli.inspection import Inspection, Signature, document, lines
from agent_client.cli.service_manager import ServiceManager
from agent_client.cli.serving.listeners import LoopbackPlace, UnixPlace, parse_place
from agent_client.cli.serving.wanted import UnusableTokens, WantedToken, wanted_tokens
from agent_client.cli.telling_times import told_duration, told_moment, told_relative
from agent_client.cli.token_file import parse_mode
from agent_client.cli.token_reading import decode, token_in
from agent_client.cli.verdict import Expected, reasons

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (243, "4 min 3 s"), (3603, "1 h"), (90_000, "1 d 1 h"), (-5, "5 s")],
)
def test_durations_are_told_in_two_units(seconds: float, told: str) -> None:
    assert told_duration(seconds) == told


def test_moments_are_told_from_now() -> None:
    assert (told_relative(10, 7), told_relative(7, 10)) == ("in 3 s", "3 s ago")
    assert told_moment(0) == "1970-01-01 00:00:00Z"
    assert told_moment(253402300799) == "9999-12-31 23:59:59Z"


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("spiffe-issuer.workload.internal", Level.OK),
        ("issuer.prod.svc", Level.FAULT),
        ("issuer.prod.SVC.cluster.local", Level.FAULT),
        ("issuer.prod.svc.", Level.FAULT),
        ("issuer.prod", Level.WARNING),
        ("issuer", Level.WARNING),
        ("svc.issuer.example.org", Level.OK),
    ],
)
def test_a_name_that_a_kubernetes_service_can_have_is_told(name: str, level: Level) -> None:
    assert dns_name_finding(name).level is level


@pytest.mark.parametrize(
    ("ahead", "level", "told"),
    [
        (0, Level.OK, "within"),
        (5, Level.OK, "within"),
        (-5, Level.OK, "within"),
        (6, Level.WARNING, "6 s ahead of"),
        (-10, Level.FAULT, "10 s behind"),
        (3600, Level.FAULT, "1 h ahead of"),
    ],
)
def test_clocks_are_compared(ahead: float, level: Level, told: str) -> None:
    finding = clock_finding(NOW + timedelta(seconds=ahead), NOW, "the issuer")
    assert finding.level is level
    assert told in finding.message
    assert clock_finding(NOW, None, "the issuer").level is Level.SKIPPED


@pytest.mark.parametrize("mode", ["600", "0600", "0640", "0660", "0400", "440"])
def test_modes_for_owner_and_group_are_taken(mode: str) -> None:
    assert parse_mode(mode) == int(mode, 8)


@pytest.mark.parametrize("mode", ["0644", "0606", "0700", "0200", "4600", "-600", "", "rw-", "0o600x"])
def test_other_modes_are_refused(mode: str) -> None:
    with pytest.raises(ValueError, match=r"mode|refused"):
        parse_mode(mode)


def test_places_are_read() -> None:
    assert parse_place("unix:/run/a.sock") == parse_place("unix:///run/a.sock") == UnixPlace(Path("/run/a.sock"))
    assert parse_place("127.0.0.1:80") == parse_place("localhost:80") == LoopbackPlace("127.0.0.1", 80)
    assert parse_place("[::1]:0") == LoopbackPlace("::1", 0)
    assert LoopbackPlace("::1", 8).authority == "[::1]:8"


@pytest.mark.parametrize(
    "text", ["", "80", ":80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "unix:"]
)
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_place(text)


def test_tokens_of_a_command_line_and_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text('[[token]]\naudience = "b"\nscopes = ["r"]\nttl = "90s"\n')
    assert wanted_tokens(["a  r w"], file) == (WantedToken("a", ("r", "w")), WantedToken("b", ("r",), "90s"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[token]]\naudience = 'a'", "list of scopes"),
        ("[[token]]\naudience = 'a'\nscopes = 'r'", "scopes is no list"),
        ("[[token]]\naudience = 'a'\nscopes = [1]", "list of scopes"),
        ("[[token]]\naudience = ''\nscopes = ['r']", "list of scopes"),
        ("[[token]]\naudience = 'a'\nscopes = ['r']\nticket = 'x'", "'ticket' is none of"),
        ("[[token]]\naudience = 'a'\nscopes = ['r']\nttl = '5'", "ttl"),
        ("[[token]]\naudience = 'a'\nscopes = ['r']\nbind = 1", "bind is no bool"),
        ("[token]\naudience = 'a'", "tables"),
        ("tokens = []", "tables"),
        ("token = [1]", "tables"),
        ("x", "no TOML"),
        ("", "no token to give out"),
    ],
)
def test_a_file_of_tokens_that_cannot_be_used_is_told_where(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text(text)
    with pytest.raises(UnusableTokens, match=told):
        wanted_tokens([], file)


def test_a_file_of_tokens_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnusableTokens, match="cannot be read"):
        wanted_tokens([], tmp_path)


def test_more_tokens_than_are_bounded_are_refused() -> None:
    with pytest.raises(UnusableTokens, match="256"):
        wanted_tokens([f"a{number} r" for number in range(257)], None)


def test_a_unix_socket_is_refused_where_the_kernel_does_not_say_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_PEERCRED")
    with pytest.raises(ValueError, match="who asks"):
        parse_place("unix:/run/app/tokens.sock")
    assert parse_place("127.0.0.1:8099") == LoopbackPlace("127.0.0.1", 8099)


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "2000000"}, 1.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}, 1.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_a_watchdog_is_answered_twice_as_often_as_it_asks(variables: dict[str, str], seconds: float | None) -> None:
    assert ServiceManager(variables).watchdog_seconds == seconds


@pytest.mark.parametrize("address", ["vsock:2:1", "relative", "/nowhere", "@nobody", "/" + "x" * 200])
def test_a_service_manager_that_cannot_be_reached_is_no_error(address: str) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": address})
    manager.ready("a")
    manager.stopping()


def test_tokens_are_found_in_text() -> None:
    assert token_in(' {"access_token": "a.b.c"} ') == token_in("Authorization: Bearer a.b.c\n") == "a.b.c"
    assert token_in("bearer a.b.c") == token_in("export T='a.b.c'") == token_in("a.b.c") == "a.b.c"
    assert token_in('{"access_token": 1}') == '{"access_token": 1}'
    assert token_in("{" * 10_000) == "{" * 10_000


def test_a_decoded_token_does_not_print_itself() -> None:
    assert "e30" not in repr(decode("e30.e30.e30"))


def test_alg_none_and_extra_header_members_are_told() -> None:
    token = decode("eyJhbGciOiJub25lIiwiamt1IjoieCJ9.eyJhIjoxfQ.")  # {"alg":"none","jku":"x"}.{"a":1}.
    told = "\n".join(reasons(token, Expected(), NOW.timestamp()))
    for reason in ("alg is 'none'", "jku", "typ is missing", "names no key", "it lacks iss, sub"):
        assert reason in told


HOSTILE_NUMBERS = ["1" + "0" * 400, "-1" + "0" * 400, "253402300800", "-1", "1.5", "true", '"1"', "null"]


@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("number", HOSTILE_NUMBERS)
def test_a_time_that_is_none_is_told_and_breaks_nothing(claim: str, number: str) -> None:
    found = inspection_of(f'{{"{claim}": {number}}}')
    assert f"its {claim} is no time" in found.reasons
    assert json.loads(json.dumps(document(found), allow_nan=False))["reasons"] == list(found.reasons)
    assert any(line.lstrip().startswith(claim) for line in lines(found))


@pytest.mark.parametrize("number", ["1e400", "-1e400", "NaN", "Infinity"])
def test_claims_that_are_no_json_are_not_read(number: str) -> None:
    assert decode(token_of(f'{{"exp": {number}}}')).claims == {}


def token_of(claims: str) -> str:
    header, payload = (base64.urlsafe_b64encode(part.encode()).rstrip(b"=").decode() for part in ("{}", claims))
    return f"{header}.{payload}.AAAA"


def inspection_of(claims: str) -> Inspection:
    token, now = decode(token_of(claims).replace("e30.", "eyJhbGciOiJub25lIn0.", 1)), NOW.timestamp()
    return Inspection(token, Signature.NOT_LOOKED_AT, tuple(reasons(token, Expected(), now)), Expected(), now)
